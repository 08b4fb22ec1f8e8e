"""The races of the flip: sessions that are open, or just being opened, when
their account is held."""

import os
import signal
import threading
import time

import pytest

from lib.flipping import Background, message
from lib.snapshot import find_serials
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 40, "trail_inbox_seconds": 300,
         "trail_seconds": 600}

FAREWELL = b"* BYE Mailbox is moving, please reconnect\r\n"


def append(wire, serial, folder="INBOX"):
    raw = message(serial)
    tag = wire.tag()
    wire.line(f"{tag} APPEND {folder} {{{len(raw)}}}")
    assert wire.read_response().startswith(b"+")
    wire.send(raw + b"\r\n")
    return wire.finish(tag)[0]


def lives_locally(flipping, user, wire):
    """What a session writes tells which side it is on."""
    serial = f"probe-{time.monotonic_ns()}"
    assert append(wire, serial).startswith(b"OK")
    return bool(flipping.places(user, serial, "local")) and \
        not flipping.places(user, serial, "legacy")


@pytest.mark.parametrize("side, pattern", [
    ("command", rb"^L LOGIN"), ("answer", rb"^L OK")])
def test_imap_login_at_the_hold_ends_on_local(flipping, side, pattern):
    world, user = flipping.world, flipping.copied()
    stop = flipping.imap.stop(pattern, world.address(user), side)
    client = Background(world.imap_wire, user)
    stop.wait()
    flipping.cutover(user)
    flipping.await_moved(user)
    with client.result() as wire:
        assert lives_locally(flipping, user, wire)


@pytest.mark.parametrize("side, pattern", [
    ("command", rb"^PASS "), ("answer", rb"^\+OK Logged in")])
def test_pop3_login_at_the_hold_ends_on_local(flipping, side, pattern):
    world, user = flipping.world, flipping.copied()
    stop = flipping.pop3.stop(pattern, world.address(user), side)
    client = Background(world.pop3, user)
    stop.wait()
    flipping.cutover(user)
    flipping.await_moved(user)
    pop = client.result()
    assert pop.stat()[0] == 5
    pop.dele(1)
    pop.quit()
    assert not flipping.places(user, f"{user}-0", "local")
    assert flipping.places(user, f"{user}-0", "legacy")


@pytest.mark.parametrize("moment", ["held", "local"])
def test_first_login_still_being_proven_ends_on_local(flipping, moment):
    """Two first logins: the second makes the account, which is being flipped,
    or is flipped, while the first still looks at the old mailbox."""
    world, user = flipping.world, flipping.newcomer()
    proof = flipping.imap.stop(rb"EXAMINE INBOX", world.address(user))
    client = Background(world.imap_wire, user)
    proof.wait()
    world.imap(user).logout()
    world.wait_account(user, copy="delta", clean=True)
    final = flipping.hold(user)
    if moment == "local":
        final.release()
        flipping.await_moved(user)
    proof.release()
    if moment == "held":
        proof.connection.await_over()
        assert client.is_alive()  # it waits, it is not told a failure
        final.release()
    with client.result() as wire:
        assert lives_locally(flipping, user, wire)


def test_login_while_held_waits_for_local(flipping):
    world, user = flipping.world, flipping.copied()
    final = flipping.hold(user)
    clients = [Background(world.imap_wire, user), Background(world.pop3, user)]
    time.sleep(0.5)  # to be wrong, they need some time
    assert all(c.is_alive() for c in clients)
    final.release()
    with clients[0].result() as wire:
        assert wire.command("NOOP")[0].startswith(b"OK")
    clients[1].result().quit()
    assert len(flipping.imap.of(world.address(user))) == 0


def test_idle_ends_when_quiet_and_the_mailbox_is_local(flipping):
    world, user = flipping.world, flipping.copied()
    before = world.snapshot(user, "legacy")
    with world.imap_wire(user) as wire:
        wire.ok("SELECT INBOX")
        wire.line("t9 IDLE")
        assert wire.read_response().startswith(b"+")
        flipping.cutover(user)
        assert wire.read_to_end() in (b"", FAREWELL)
    flipping.await_moved(user)
    flipping.check_same(before, user)
    with world.imap_wire(user) as wire:
        assert lives_locally(flipping, user, wire)


def test_append_half_sent_is_cut_without_an_ok(flipping):
    world, user = flipping.world, flipping.copied()
    raw = message(f"{user}-half")
    with world.imap_wire(user) as wire:
        wire.line(f"t9 APPEND INBOX {{{len(raw)}}}")
        assert wire.read_response().startswith(b"+")
        wire.send(raw[:len(raw) // 2])
        flipping.cutover(user)
        assert b"t9 OK" not in wire.read_to_end()
    flipping.await_moved(user)
    assert not flipping.places(user, f"{user}-half", "legacy")
    assert not flipping.places(user, f"{user}-half", "local")


def test_append_that_ends_in_time_is_told_and_moves(flipping):
    """Its last part comes while its account is held: forced later, not now."""
    world, user = flipping.world, flipping.copied()
    raw = message(f"{user}-late")
    stop = flipping.imap.stop(rb"t9 OK", world.address(user), "answer")
    with world.imap_wire(user) as wire:
        wire.line(f"t9 APPEND INBOX {{{len(raw)}}}")
        assert wire.read_response().startswith(b"+")
        wire.send(raw + b"\r\n")
        stop.wait()  # legacy has it, and has not said so yet
        flipping.cutover(user)
        flipping.await_held(user)
        stop.release()
        rest = wire.read_to_end()
    assert b"t9 OK" in rest
    flipping.await_moved(user)
    flipping.await_place(user, f"{user}-late")


def test_append_whose_ok_is_lost_is_found_once(flipping):
    world, user = flipping.world, flipping.copied()
    raw = message(f"{user}-lost")
    stop = flipping.imap.stop(rb"t9 OK", world.address(user), "answer")
    with world.imap_wire(user) as wire:
        wire.line(f"t9 APPEND INBOX {{{len(raw)}}}")
        assert wire.read_response().startswith(b"+")
        wire.send(raw + b"\r\n")
        stop.wait()
        flipping.cutover(user)
        assert b"t9 OK" not in wire.read_to_end()
    flipping.await_moved(user)
    flipping.await_place(user, f"{user}-lost")


def test_append_that_legacy_commits_after_the_flip_is_trailed(flipping):
    world, user = flipping.world, flipping.copied()
    raw = message(f"{user}-after")
    stop = flipping.imap.stop(rb"Hello\.", world.address(user))
    with world.imap_wire(user) as wire:
        wire.line(f"t9 APPEND INBOX {{{len(raw)}}}")
        assert wire.read_response().startswith(b"+")
        wire.send(raw + b"\r\n")
        stop.wait()  # legacy waits for its end
        flipping.cutover(user)
        assert b"t9 OK" not in wire.read_to_end()
    flipping.await_moved(user)
    stop.release()
    flipping.await_place(user, f"{user}-after", "legacy")
    flipping.await_place(user, f"{user}-after", "local")


def test_store_in_flight_is_in_the_last_delta(flipping):
    """No trail would bring it: after the flip flags follow legacy no more."""
    world, user = flipping.world, flipping.copied()
    stop = flipping.imap.stop(rb" STORE ", world.address(user))
    with world.imap_wire(user) as wire:
        wire.ok("SELECT INBOX")
        wire.line("t9 STORE 2 +FLAGS (\\Flagged)")
        stop.wait()
        flipping.cutover(user)
        flipping.await_held(user)
        stop.release()
        wire.read_to_end()
    flipping.await_moved(user)
    with world.imap(user, "local") as imap:
        imap.select("INBOX", readonly=True)
        assert imap.search(None, "FLAGGED")[1] == [b"2"]


def test_pop3_session_makes_the_hold_give_way(flipping):
    world, user = flipping.world, flipping.copied()
    pop = world.pop3(user)
    pop.dele(1)
    pop.dele(3)
    flipping.cutover(user)
    wait_until(lambda: flipping.logged(user, "must not be cut"), 30)
    row = world.wait_account(user, route="legacy", copy="delta")
    assert row["hold_failures"] == 0 and row["next_flip_at"]
    assert pop.stat()[0] == 3
    pop.quit()
    flipping.cutover(user)  # now, not in a quarter of a minute
    flipping.await_moved(user)
    with world.imap(user) as imap:
        assert sorted(find_serials(imap)) == [f"{user}-{n}" for n in (1, 3, 4)]


def by_process(world, keeps, make):
    """make() served by the login process of that number: the others stand
    still meanwhile."""
    others = [pid for n, pid in enumerate(sorted(world.pids("login")))
              if n != keeps]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        return make()
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def test_hold_that_gives_way_ends_no_session(flipping):
    """POP3 in one process, IMAP in the other."""
    world, user = flipping.world, flipping.copied()
    pop = by_process(world, 0, lambda: world.pop3(user))
    with by_process(world, 1, lambda: world.imap_wire(user)) as wire:
        wire.ok("SELECT INBOX")
        time.sleep(0.5)  # by now it is quiet
        flipping.cutover(user)
        wait_until(lambda: flipping.logged(user, "must not be cut"), 30)
        world.wait_account(user, route="legacy", copy="delta")
        assert wire.command("NOOP")[0].startswith(b"OK")
        pop.quit()
        flipping.cutover(user)
        assert wire.read_to_end() in (b"", FAREWELL)
    flipping.await_moved(user)


def test_pop3_session_not_learnt_yet_keeps_the_hold_away(flipping):
    """Its first login is still being proven while another makes the account
    and would move it: what it deletes is deleted on both sides."""
    world, user = flipping.world, flipping.newcomer()
    proof = flipping.imap.stop(rb"EXAMINE INBOX", world.address(user))
    pop = world.pop3(user)
    proof.wait()
    pop.dele(1)
    world.imap(user).logout()
    world.wait_account(user, copy="delta", clean=True)
    flipping.cutover(user)
    wait_until(lambda: flipping.logged(user, "must not be cut"), 30)
    world.wait_account(user, route="legacy", copy="delta")
    proof.release()
    pop.quit()
    flipping.cutover(user)
    flipping.await_moved(user)
    for side in ("legacy", "local"):
        assert flipping.places(user, f"{user}-0", side) == []


def speak_on(connection, ending):
    """A server that never ends its answer."""
    while not ending.wait(0.05) and not connection.is_over:
        try:
            connection.say(b"* 5 FETCH (FLAGS (\\Seen) ")
        except OSError:
            return


@pytest.fixture
def short_hold(flipping):
    flipping.set_domain("--hold-seconds", "8")
    yield
    flipping.set_domain("--hold-seconds", "20")


def test_session_that_is_never_quiet_is_forced(flipping, short_hold):
    """Forced at a quarter of hold_seconds (5 s at most), and without text in
    the middle of a line."""
    world, user = flipping.world, flipping.copied()
    ending = threading.Event()
    with world.imap_wire(user) as wire:
        wire.ok("SELECT INBOX")
        [connection] = flipping.imap.of(world.address(user))
        Background(speak_on, connection, ending)
        began = time.monotonic()
        flipping.cutover(user)
        told = wire.read_to_end()
        assert time.monotonic() - began >= 2
    ending.set()
    assert told.count(b"FETCH") > 10 and b"BYE" not in told
    flipping.await_moved(user)


@pytest.mark.parametrize("has_compress", [True, False])
def test_no_bye_where_compress_may_be_on(flipping, has_compress):
    """Text between deflated bytes would be an error to the client."""
    world, user = flipping.world, flipping.copied()
    stop = flipping.imap.stop(rb"^L OK", world.address(user), "answer")
    client = Background(world.imap_wire, user)
    stop.wait()
    stop.raw = stop.raw.replace(b" COMPRESS=DEFLATE", b"")
    assert b"[CAPABILITY " in stop.raw
    if has_compress:
        stop.raw = stop.raw.replace(b"[CAPABILITY ",
                                    b"[CAPABILITY COMPRESS=DEFLATE ")
    stop.release()
    with client.result() as wire:
        flipping.cutover(user)
        assert wire.read_to_end() == (b"" if has_compress else FAREWELL)
    flipping.await_moved(user)


# processes


def test_dead_login_process_is_quiet(flipping):
    world, user = flipping.world, flipping.copied()
    pid = world.pids("login")[0]
    os.kill(pid, signal.SIGSTOP)
    flipping.cutover(user)
    flipping.await_held(user)
    os.kill(pid, signal.SIGKILL)
    flipping.await_moved(user)
    wait_until(lambda: len(world.pids("login")) == 2, 30)
    world.imap(user).logout()


def test_process_that_does_not_answer_sends_the_account_back(flipping,
                                                             short_hold):
    world, user = flipping.world, flipping.copied()
    pid = world.pids("login")[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        flipping.cutover(user)
        flipping.await_held(user)
        row = world.wait_account(user, route="legacy", copy="delta")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert row["hold_failures"] == 1 and row["epoch"] == 3
    wait_ms = row["next_flip_at"] - time.time() * 1000
    assert 14 * 60_000 < wait_ms <= 15 * 60_000
    with world.imap_wire(user) as wire:
        assert append(wire, f"{user}-back").startswith(b"OK")
        assert flipping.places(user, f"{user}-back", "legacy")
    flipping.cutover(user)
    assert flipping.await_moved(user)["hold_failures"] == 0
    flipping.await_place(user, f"{user}-back")


def drain_behind(world):
    """SIGHUP while one process has a session: the pid of that process."""
    old = set(world.pids("login"))
    world.hang_up()
    wait_until(lambda: len(set(world.pids("login")) - old) == 2, 30)
    wait_until(lambda: len(old & set(world.pids("login"))) == 1, 30)
    return (old & set(world.pids("login"))).pop()


def test_old_generation_answers_the_hold(flipping):
    """A session on processes that drain since SIGHUP."""
    world, user = flipping.world, flipping.copied()
    with world.imap_wire(user) as wire:
        wire.ok("SELECT INBOX")
        old = drain_behind(world)
        assert wire.command("NOOP")[0].startswith(b"OK")
        with world.imap_wire(user) as other:  # by the new ones
            assert other.command("NOOP")[0].startswith(b"OK")
        flipping.cutover(user)
        assert wire.read_to_end() in (b"", FAREWELL)
    flipping.await_moved(user)
    wait_until(lambda: old not in world.pids("login"), 30)
    with world.imap_wire(user) as wire:
        assert lives_locally(flipping, user, wire)


def test_dead_process_of_an_old_generation_is_quiet(flipping):
    """Nobody comes in its place, so nothing but its death can be heard."""
    world, user = flipping.world, flipping.copied()
    with world.imap_wire(user):
        old = drain_behind(world)
        os.kill(old, signal.SIGSTOP)
        flipping.cutover(user)
        flipping.await_held(user)
        os.kill(old, signal.SIGKILL)
        flipping.await_moved(user)
    assert not flipping.logged(user, "hold-failed")


def test_new_generation_during_a_hold(flipping):
    world, user = flipping.world, flipping.copied()
    old = set(world.pids("login"))
    final = flipping.hold(user)
    client = Background(world.imap_wire, user)
    world.hang_up()
    wait_until(lambda: len(set(world.pids("login")) - old) == 2, 30)
    late = Background(world.imap_wire, user)
    final.release()
    for waiting in (client, late):
        with waiting.result() as wire:
            assert wire.command("NOOP")[0].startswith(b"OK")
    flipping.await_moved(user)
    wait_until(lambda: not old & set(world.pids("login")), 30)
