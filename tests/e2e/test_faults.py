"""What goes wrong around a migration: bad messages, a legacy server that
refuses, throttles or is away, disks that are full."""

import json
import smtplib
import threading
import time

import pytest
from fakes.sick_imap import SickImap
from lib.mailbox import append, store, uids_of
from lib.old_domains import imap_answer, is_temporary, serve
from lib.small_disk import SmallDisk
from lib.snapshot import differences
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "delta_seconds": 1}


def sick(world, domain, legacy, cutover="manual"):
    """A domain whose only server is `legacy`; its user ann@domain."""
    serve(world, domain, legacy)
    world.mailhaul("domain", "set", domain, "--cutover", cutover)
    return f"ann@{domain}"


def log_in(world, user):
    answer = imap_answer(world, user, "any")[0]
    assert answer.startswith("OK"), answer


def passes(legacy):
    return sum(line.startswith("LIST") for line in legacy.heard)


def stuck(world, address):
    rows = world.mailhaul("status")["stuck"]
    return next((r for r in rows if r["address"] == address), None)


def local_messages(world, user, password="any"):
    imap = world.imap(user, "local", password=password)
    imap.select("INBOX", readonly=True)
    found = [int(u) for u in imap.uid("SEARCH", "ALL")[1][0].split()]
    imap.logout()
    return found


# ---- one bad message (promise 8)

@pytest.mark.parametrize("fault", ["refused", "cut", "left out"])
def test_a_bad_message_is_set_aside_and_stops_nobody(shared_world, fault):
    world = shared_world
    with SickImap() as legacy:
        legacy.fault = {7: fault}
        user = sick(world, f"one-{fault.replace(' ', '')}.test", legacy,
                    "auto")
        log_in(world, user)
        row = world.wait_account(user, copy="delta", set_aside=1)
        assert row["messages"] == 19 and row["messages_total"] == 20
        assert stuck(world, user)["set_aside"] == 1
        assert world.mailhaul("status")["totals"]["set_aside"] >= 1
        # it does not flip by itself, nor because somebody asks for it
        seen = passes(legacy)
        wait_until(lambda: passes(legacy) > seen + 2)
        for asked in (["--domain", user.partition("@")[2]], [user]):
            done = world.mailhaul("cutover", *asked, check=False)
            assert done.returncode == 1
            said = json.loads(done.stdout)["accounts"][0]["cutover"]
            assert said == "set_aside"
        row = world.account(user)
        assert (row["route"], row["accepted"]) == ("legacy", 0)
        # the administrator accepts it by name
        item, = row["items"]
        assert item["reason"] and not item["accepted_at"]
        world.mailhaul("account", "accept", user, item["item"])
        row = world.wait_account(user, route="local", provisioned=True)
        assert row["set_aside"] == 1
        assert local_messages(world, user) == [
            u for u in range(1, 21) if u != 7]


def test_what_was_accepted_is_not_what_comes_later(shared_world):
    """One more message set aside shuts the gate again."""
    world = shared_world
    with SickImap() as legacy:
        user = sick(world, "more.test", legacy)
        log_in(world, user)
        world.wait_account(user, copy="delta")
        legacy.fault = {21: "refused"}
        legacy.uids.append(21)
        row = world.wait_account(user, set_aside=1)
        world.mailhaul("account", "accept", user, row["items"][0]["item"])
        legacy.fault[22] = "refused"
        legacy.uids.append(22)
        world.mailhaul("cutover", user)
        row = world.wait_account(user, set_aside=2)
        assert [i["item"].rpartition("/")[2] for i in row["items"]
                if not i["accepted_at"]] == ["22"]
        seen = passes(legacy)
        wait_until(lambda: passes(legacy) > seen + 2)
        assert world.account(user)["route"] == "legacy"
        world.mailhaul("account", "accept", user,
                       *[i["item"] for i in row["items"]])
        world.wait_account(user, route="local", provisioned=True)


def test_a_message_that_heals_is_copied_and_the_account_flips(shared_world):
    world = shared_world
    with SickImap() as legacy:
        legacy.fault = {7: "cut", 8: "bad"}
        user = sick(world, "heals.test", legacy, "auto")
        log_in(world, user)
        world.wait_account(user, copy="delta", set_aside=2)
        legacy.fault = {}
        world.wait_account(user, route="local", provisioned=True)
        assert world.account(user)["set_aside"] == 0
        assert local_messages(world, user) == list(range(1, 21))


@pytest.mark.parametrize("fault", ["refused", "cut", "empty"])
def test_a_bad_message_does_not_stop_the_trail(shared_world, fault):
    world = shared_world
    with SickImap() as legacy:
        user = sick(world, f"trail-{fault}.test", legacy, "auto")
        log_in(world, user)
        world.wait_account(user, route="local", provisioned=True)
        legacy.fault = {22: fault}
        legacy.uids += [21, 22, 23]
        wait_until(lambda: len(local_messages(world, user)) == 22, 60, 0.3)
        world.wait_account(user, set_aside=1)
        assert stuck(world, user)
        # later passes try it again, and it is in nobody's way
        trail_until(world, user, lambda: "attempt=4 set aside" in
                    text_of(world, user))
        legacy.uids.append(24)
        trail_until(world, user,
                    lambda: len(local_messages(world, user)) == 23)
        assert local_messages(world, user)[:20] == list(range(1, 21))
        assert world.account(user)["set_aside"] == 1


def trail_until(world, user, reached):
    """Passes of the trail one after the other."""
    def look():
        if not any(j["running"] for j in world.account(user)["jobs"]):
            world.mailhaul("migrate", user)
        return reached()
    return wait_until(look, 60, 0.3)


def text_of(world, user):
    """The log since its domain is there; the worker names no account in all
    its lines."""
    text = world.node.log.read_text(errors="replace")
    return text[text.index(f"account {user} learnt"):]


# ---- a legacy server in trouble

TROUBLES = {
    "throttled": ("UID SEARCH", "NO [THROTTLED] slow down"),
    "limit": ("LOGIN", "NO [LIMIT] too many connections"),
    "unavailable": ("LIST", "NO [UNAVAILABLE] come back later"),
    "bad": ("EXAMINE", "BAD internal error"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_troubled_server_is_asked_later_and_the_user_stays(shared_world,
                                                             name):
    """During the first copy, with back-off, and it ends well by itself."""
    world = shared_world
    with SickImap() as legacy:
        user = sick(world, f"{name}.test", legacy)
        seal(world, user)
        verb, answer = TROUBLES[name]
        legacy.answers = {verb: answer}
        row = wait_until(lambda: (lambda a: a if a and a["last_error"] and any(
            j["attempts"] > 1 for j in a["jobs"]) else None)(
                world.account(user)), 60, 0.1, lambda: world.account(user))
        assert row["last_error_kind"] == "retry", row
        assert (row["copy"], row["route"]) == ("initial", "legacy")
        job = next(j for j in row["jobs"] if j["kind"] == "initial")
        assert job["due_at"] > row["last_error_at"]
        assert stuck(world, user)
        legacy.answers = {}
        world.mailhaul("migrate", user)  # does not wait for the back-off
        row = world.wait_account(user, copy="delta")
        assert row["last_error"] is None and row["messages"] == 20


def seal(world, user):
    """Known to mailhaul by a list, without a login of the user."""
    path = world.folder / "list.csv"
    path.write_text(f"{user},{user},any\n")
    world.mailhaul("migrate", "--csv", path)


def test_bye_and_silence_in_a_delta_and_in_the_trail_pass(shared_world):
    world = shared_world
    with SickImap() as legacy:
        user = sick(world, "bye.test", legacy)
        log_in(world, user)
        world.wait_account(user, copy="delta")
        legacy.greeting = "* BYE [UNAVAILABLE] overloaded"
        world.wait_account(user, last_error_kind=("retry", "peer"))
        legacy.uids.append(21)
        legacy.greeting = None
        world.wait_account(user, messages=21, last_error=None)
        world.mailhaul("cutover", user)
        world.wait_account(user, route="local", provisioned=True)
        port = legacy.port
    # legacy is dead: the user does not notice, the trail does
    world.wait_account(user, last_error_kind="retry", copy="trail")
    log_in(world, user)
    with SickImap(range(1, 23), port=port) as legacy:
        wait_until(lambda: len(local_messages(world, user)) == 22, 60, 0.3)
        world.wait_account(user, last_error=None)
        assert len(local_messages(world, user)) == 22
    remove_from_work(world, "bye.test")


def remove_from_work(world, domain):
    """Its legacy is gone for good; its jobs need not fill the log."""
    world.mailhaul("domain", "disable", domain, check=False)


@pytest.mark.world(cutover="manual", workers=6,
                   legacy_conf="mail_max_userip_connections = 2\n")
def test_the_user_goes_before_the_worker_at_the_limit_of_connections(world):
    """Two connections a user: both are hers, the worker waits until she
    leaves one."""
    world.fill("alice", messages=30, folders=3, total=100_000)
    first = world.imap("alice")
    second = world.imap("alice", "legacy")
    row = wait_until(lambda: (lambda a: a if a and a["last_error"] else None)(
        world.account("alice")), 60, 0.1, world.log_tail)
    assert row["last_error_kind"] == "retry"
    assert row["copy"] == "initial"
    for imap in (first, second):  # nobody has thrown her out
        assert imap.noop()[0] == "OK"
    second.logout()
    world.mailhaul("migrate", "alice@example.test")
    world.wait_account("alice", copy="delta")
    assert first.noop()[0] == "OK"
    first.logout()


# ---- how many at once

def test_workers_and_connections_to_one_host_are_counted(make_world):
    """per_host is 8 and workers are 10: of 12 mailboxes of a host that
    stands still eight are being copied, and two of another."""
    world = make_world(workers=10, **WORLD)
    go = threading.Event()
    with SickImap() as slow, SickImap() as other:
        for legacy in (slow, other):
            legacy.waits = {"LIST": go}
        serve(world, "slow.test", slow)
        serve(world, "other.test", other, host="127.0.0.1")
        rows = [f"u{n}@slow.test,u{n},any" for n in range(12)]
        rows += [f"u{n}@other.test,u{n},any" for n in range(4)]
        path = world.folder / "list.csv"
        path.write_text("\n".join(rows) + "\n")
        world.mailhaul("migrate", "--csv", path)
        wait_until(lambda: (slow.waiting, other.waiting) == (8, 2), 60, 0.1,
                   lambda: (slow.waiting, other.waiting))
        time.sleep(1)  # more would have come by now
        assert (slow.waiting, other.waiting) == (8, 2)
        assert len(world.pids("worker")) == 10
        # somebody of a third host logs in and lives meanwhile
        world.imap("alice").logout()
        go.set()
        wait_until(lambda: world.mailhaul("status")["totals"]["copy"]["delta"]
                   == 17, 60, 0.3)


# ---- disks that are full

@pytest.fixture
def disk_world(make_world, request):
    """(world, disk); the node is not started yet."""
    disks = []

    def make(folder, size_mb, **settings):
        world = make_world(run=False, **{**WORLD, **settings})
        disks.append(SmallDisk(folder(world), size_mb))
        world._make_owned()
        world.node.cli("init")
        world.add_domain()
        world.run_node()
        return world, disks[-1]
    yield make
    for disk in disks:
        disk.close()


def has_failed(world, user, text):
    row = world.account(user)
    return row if row and text in (row["last_error"] or "") else None


def test_a_full_store_stops_copying_until_there_is_room(disk_world):
    world, disk = disk_world(lambda w: w.settings.store, 3, cutover="auto")
    world.fill("alice", messages=400, folders=6, total=6_000_000)
    before = world.snapshot("alice", "legacy")
    session = world.imap("alice")
    row = wait_until(lambda: has_failed(world, "alice", "No space left"), 60,
                     0.1, world.log_tail)
    assert (row["route"], row["copy"]) == ("legacy", "initial")
    assert row["set_aside"] == 0
    assert stuck(world, "alice@example.test")["last_error"]
    assert session.noop()[0] == "OK"
    session.logout()
    disk.resize(64)
    row = world.wait_account("alice", 90, route="local", provisioned=True)
    assert row["last_error"] is None and row["set_aside"] == 0
    assert differences(before, world.snapshot("alice")) == []
    assert world.mailhaul("verify", "--full", "alice@example.test")


def test_a_full_store_in_a_delta_leaves_what_was_there(disk_world):
    world, disk = disk_world(lambda w: w.settings.store, 8)
    world.fill("alice", messages=100, folders=4, total=500_000)
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta", clean=True)
    disk.fill()
    with world.imap("alice", "legacy") as imap:
        for n in range(20):
            append(imap, "INBOX", f"{n} " + "x" * 20000)
        store(imap, "INBOX", uids_of(imap, "INBOX")[:5], "FLAGS",
              "(\\Flagged one two)")
    before = world.snapshot("alice", "legacy")
    wait_until(lambda: has_failed(world, "alice", "No space left"), 60)
    assert world.account("alice")["route"] == "legacy"
    disk.empty()
    world.wait_account("alice", clean=True, last_error=None)
    world.mailhaul("cutover", "alice@example.test")
    world.wait_account("alice", route="local", provisioned=True)
    assert differences(before, world.snapshot("alice")) == []


def try_login(world, user):
    answer, _, _ = imap_answer(world, world.address(user),
                               world.password(user))
    return answer


def try_send(world, user):
    try:
        world.send(user)
        return 250
    except smtplib.SMTPRecipientsRefused as e:
        return next(iter(e.recipients.values()))[0]
    except smtplib.SMTPResponseException as e:
        return e.smtp_code


def test_a_full_state_dir_is_temporary_and_hurts_no_session(disk_world):
    """Control db, ledgers and what local reads have no room."""
    world, disk = disk_world(lambda w: w.folder / "state", 4)
    world.fill("alice", messages=50, folders=3, total=200_000)
    world.fill("bob", messages=50, folders=3, total=200_000)
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta", clean=True)
    world.mailhaul("cutover", "alice@example.test")
    world.wait_account("alice", route="local", provisioned=True)
    session = world.imap("alice")
    logins = world.pids("login") + world.pids("smtp")
    disk.fill()
    for _ in range(3):
        for user in ("alice", "bob", "carol"):
            answer = try_login(world, user)
            assert answer.startswith("OK") or is_temporary(answer), answer
            code = try_send(world, user)
            assert code == 250 or 400 <= code < 500, code
        time.sleep(0.5)
    assert session.noop()[0] == "OK"
    # who is known is served, and the administrator hears why nothing moves
    assert try_login(world, "alice").startswith("OK")
    assert world.account("alice")["route"] == "local"
    done = world.mailhaul("account", "pause", "alice@example.test",
                          check=False)
    assert done.returncode == 1 and "no room" in done.stdout + done.stderr
    deaths = world.node.log.read_text(errors="replace").count("] died")
    assert deaths <= 2
    assert sorted(logins) == sorted(world.pids("login") + world.pids("smtp"))
    disk.empty()
    # until then legacy has served him, and nothing was recorded
    wait_until(lambda: try_login(world, "bob").startswith("OK")
               and world.account("bob"), 60, 0.3)
    assert session.noop()[0] == "OK"
    session.logout()
    wait_until(lambda: (world.account("bob") or {}).get("copy") == "delta", 60,
               0.3, lambda: [try_login(world, "bob"), world.account("bob")])
    before = world.snapshot("bob", "legacy")
    world.mailhaul("cutover", "bob@example.test")
    world.wait_account("bob", route="local", provisioned=True)
    assert differences(before, world.snapshot("bob")) == []
