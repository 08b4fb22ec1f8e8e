"""The races of the flip: processes killed in the middle of it, and a legacy
server that fails the last delta."""

import imaplib
import os
import signal

import pytest

from lib.flipping import Background, message
from lib.snapshot import find_serials
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 20, "trail_inbox_seconds": 300,
         "trail_seconds": 600, "delta_seconds": 2}


def change_on_legacy(world, user):
    """Mail that comes, goes and is read since the copy was made."""
    with world.imap(user, "legacy") as imap:
        for n in range(20):
            imap.append("INBOX", "", None, message(f"{user}-more-{n}"))
        imap.select("INBOX")
        imap.store("2", "+FLAGS", "(\\Flagged $label1)")
        imap.store("1", "+FLAGS", "(\\Deleted)")
        imap.expunge()


def kill_worker(flipping, stop):
    """In the window; the next one goes on behind it."""
    stop.wait()
    world = flipping.world
    # the others' trails come and go, the one that is stopped stays
    [pid] = wait_until(lambda: len(pids := world.pids("worker")) == 1 and pids,
                       10, 0.01, lambda: world.pids("worker"))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in world.pids("worker"), 30)
    stop.cut()


def full(flipping):
    """A newcomer with several folders and keywords."""
    flipping.count += 1
    user = f"user{flipping.count:03}"
    flipping.world.fill(user, messages=60, folders=6, total=200_000)
    return user


def test_worker_killed_in_the_first_copy(flipping):
    world, user = flipping.world, full(flipping)
    before = world.snapshot(user, "legacy")
    stops = [flipping.imap.stop(rb" UID FETCH", world.address(user)),
             flipping.imap.stop(rb" EXAMINE Trash", world.address(user)),
             flipping.imap.stop(rb"FETCH \(UID", world.address(user),
                                "answer")]
    world.imap(user).logout()
    for stop in (stops[0], stops[2], stops[1]):
        kill_worker(flipping, stop)
    world.wait_account(user, copy="delta", clean=True)
    flipping.cutover(user)
    flipping.await_moved(user)
    flipping.check_same(before, user)


def test_worker_killed_in_a_delta(flipping):
    world, user = flipping.world, full(flipping)
    world.imap(user).logout()
    world.wait_account(user, copy="delta", clean=True)
    stop = flipping.imap.stop(rb" UID FETCH", world.address(user))
    change_on_legacy(world, user)
    before = world.snapshot(user, "legacy")
    flipping.cutover(user)
    kill_worker(flipping, stop)
    flipping.await_moved(user)
    flipping.check_same(before, user)


@pytest.mark.parametrize("pattern", [rb" STATUS INBOX", rb" UID FETCH",
                                     rb" LOGOUT"])
def test_worker_killed_in_the_last_delta(flipping, pattern):
    world, user = flipping.world, full(flipping)
    world.imap(user).logout()
    world.wait_account(user, copy="delta", clean=True)
    stop = flipping.at_final(user, pattern)
    late = flipping.at_final(user, rb" LOGIN ")
    flipping.cutover(user)
    late.wait()  # held, and the worker has not looked yet
    change_on_legacy(world, user)
    before = world.snapshot(user, "legacy")
    late.release()
    kill_worker(flipping, stop)
    row = world.wait_account(user, route="legacy", copy="delta")
    assert row["hold_failures"] == 1 and row["epoch"] == 3
    with world.imap(user) as imap:
        assert imap.noop()[0] == "OK"
    flipping.cutover(user)
    flipping.await_moved(user)
    flipping.check_same(before, user)


def test_state_killed_in_held_comes_back_as_legacy(flipping):
    world, user = flipping.world, flipping.copied()
    before = world.snapshot(user, "legacy")
    final = flipping.hold(user)
    clients = [Background(world.imap, user), Background(world.pop3, user),
               Background(world.smtp)]
    assert world.kill("state") == 1
    for client in clients:  # none of them hears a failure
        client.result()
    clients[1].value.quit()
    row = world.wait_account(user, route="legacy", copy="delta")
    assert row["epoch"] == 3
    assert not flipping.logged(user, "flipped")
    final.release()
    clients[0].value.logout()
    flipping.cutover(user)
    assert flipping.await_moved(user)["epoch"] == 5
    flipping.check_same(before, user)


def test_state_killed_while_sessions_become_quiet(flipping):
    """A session that was told to end, and one in mail that nobody cuts."""
    world, user = flipping.world, flipping.copied()
    serial = f"{user}-data"
    stop = flipping.smtp.stop(rb"\r\n\.\r\n", world.address(user))
    client = Background(world.send, user, "mailhaul", "x@sender.test", serial)
    stop.wait()
    flipping.cutover(user)
    flipping.await_held(user)
    assert world.kill("state") == 1
    row = world.wait_account(user, route="legacy", copy="delta")
    assert row["epoch"] == 3
    stop.release()
    assert client.result() == serial
    flipping.await_place(user, serial, "legacy")
    flipping.cutover(user)
    flipping.await_moved(user)
    flipping.await_place(user, serial)


def test_session_older_than_the_state_process_is_ended(flipping):
    world, user = flipping.world, flipping.copied()
    with world.imap_wire(user) as wire:
        wire.ok("SELECT INBOX")
        assert world.kill("state") == 1
        assert wire.command("NOOP")[0].startswith(b"OK")
        flipping.cutover(user)
        flipping.await_moved(user)
        wire.read_to_end()
    with world.imap_wire(user) as wire:
        wire.ok("SELECT INBOX")
    assert not flipping.imap.of(world.address(user))


def test_everything_killed_in_held(flipping):
    world, user = flipping.world, flipping.copied()
    before = world.snapshot(user, "legacy")
    final = flipping.hold(user)
    world.restart_node()
    final.release()
    row = world.wait_account(user, route="legacy", copy="delta")
    assert row["epoch"] == 3
    with world.imap(user) as imap:
        assert imap.select("INBOX")[0] == "OK"
    flipping.cutover(user)
    flipping.await_moved(user)
    flipping.check_same(before, user)


def test_jobs_process_killed_in_the_last_delta(flipping):
    world, user = flipping.world, flipping.copied()
    before = world.snapshot(user, "legacy")
    final = flipping.hold(user)
    client = Background(world.imap, user)
    assert world.kill("jobs") == 1
    client.result().logout()
    world.wait_account(user, route="legacy", copy="delta")
    final.release()
    flipping.cutover(user)
    flipping.await_moved(user)
    flipping.check_same(before, user)


# the last delta fails


@pytest.fixture
def short_hold(flipping):
    flipping.set_domain("--hold-seconds", "4")
    yield
    flipping.set_domain("--hold-seconds", "20")


def test_legacy_that_stalls_in_the_last_delta(flipping, short_hold):
    world, user = flipping.world, flipping.copied()
    final = flipping.hold(user)
    client = Background(world.imap, user)
    row = world.wait_account(user, route="legacy", copy="delta")
    assert row["hold_failures"] == 1
    with client.result() as imap:  # waited, and was served by legacy
        imap.append("INBOX", "", None, message(f"{user}-stay"))
    assert flipping.places(user, f"{user}-stay", "legacy")
    final.release()
    flipping.cutover(user)
    flipping.await_moved(user)
    flipping.await_place(user, f"{user}-stay")


def test_legacy_that_is_cut_in_the_last_delta(flipping):
    world, user = flipping.world, flipping.copied()
    final = flipping.hold(user)
    client = Background(world.imap, user)
    final.cut()
    client.result().logout()
    row = world.wait_account(user, route="legacy", copy="delta")
    assert row["hold_failures"] == 1
    flipping.cutover(user)
    flipping.await_moved(user)


def test_legacy_stopped_in_the_last_delta(flipping, short_hold):
    """All its processes hang: nobody hears that a password is wrong."""
    world, user = flipping.world, flipping.copied()
    final = flipping.hold(user)
    pids = world.family("legacy-dovecot")
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        final.release()
        client = Background(world.imap, user)
        world.wait_account(user, route="legacy", copy="delta")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    client.result().logout()
    flipping.cutover(user)
    flipping.await_moved(user)


def refused(world, user, password, side="mailhaul"):
    try:
        world.imap(user, side, password=password).logout()
    except imaplib.IMAP4.error as error:
        return "AUTHENTICATIONFAILED" in str(error)
    return False


def test_password_changed_on_legacy_stops_the_flip(flipping):
    world, user = flipping.world, flipping.copied()
    login = flipping.at_final(user, rb" LOGIN ")
    flipping.cutover(user)
    login.wait()
    world.set_legacy_password(user, "fresh")
    # Dovecot looks at its file once a second
    wait_until(lambda: refused(world, user, world.password(user), "legacy"))
    login.release()
    row = world.wait_account(user, copy="failed")
    assert row["route"] == "legacy" and row["last_error_kind"] == "denied"
    assert row["hold_failures"] == 0
    assert not row["password_sealed"]
    assert refused(world, user, world.password(user))
    with world.imap(user, password="fresh") as imap:  # legacy still serves him
        imap.append("INBOX", "", None, message(f"{user}-fresh"))
    # wanted before, and what stood in its way is gone: it need not be asked
    # for again
    flipping.await_moved(user)
    assert refused(world, user, world.password(user))
    with world.imap(user, password="fresh") as imap:
        assert len(find_serials(imap)[f"{user}-fresh"]) == 1
