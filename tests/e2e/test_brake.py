"""The brake: freezes in the middle of everything, and who of a domain is taken
in how fast."""

import contextlib
import hashlib
import imaplib
import json
import time

import pytest

from lib.delivered import copies
from lib.flipping import Background
from lib.senders import Sender
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 60, "delta_seconds": 2,
         "workers": 8, "trail_inbox_seconds": 2, "trail_seconds": 4}
AT_ONCE_S = 10  # a second is promised; the rest is for a busy machine


@pytest.fixture(autouse=True)
def thawed(flipping):
    """Whatever a test has frozen or shut out is open to the next one."""
    yield
    flipping.calm()
    flipping.world.mailhaul("thaw", check=False)
    flipping.set_domain("--admit", "all", "--admit-rate", "none")


def domain_of(flipping):
    return flipping.world.settings.domain


def freeze(flipping, *args):
    return flipping.world.mailhaul(
        "freeze", "--domain", domain_of(flipping), *args)


def full(flipping):
    """A newcomer with several folders and keywords."""
    flipping.count += 1
    user = f"user{flipping.count:03}"
    flipping.world.fill(user, messages=40, folders=5, total=100_000)
    return user


def log_in(world, user):
    """A first login that does not stay."""
    world.imap(user).logout()


def running(world, *kinds):
    """Jobs of these kinds that run: [(address, kind)]."""
    rows = world.mailhaul("account", "list")["accounts"]
    shown = [world.account(row["address"]) for row in rows]
    return [(a["address"], job["kind"]) for a in shown for job in a["jobs"]
            if job["running"] and job["kind"] in kinds]


def refused(world, *args):
    """What a command that must fail says."""
    done = world.mailhaul(*args, check=False)
    assert done.returncode == 1, (args, done.stdout)
    return json.loads(done.stdout)["error"]


class Story:
    """Everything there is at once: somebody who has moved, some who are held,
    some who are copied, a session, mail for all of them."""

    def __init__(self, flipping):
        self.flipping = flipping
        self.world = world = flipping.world
        self.moved = flipping.copied()
        flipping.cutover(self.moved)
        flipping.await_moved(self.moved)
        self.reader = flipping.copied()
        self.session = world.imap(self.reader)
        self.session.select("INBOX")
        self.held = [flipping.copied() for _ in range(3)]
        self.copied = [full(flipping) for _ in range(4)]
        self.before = {user: world.snapshot(user, "legacy")
                       for user in self.copied}
        self.senders = [
            Sender(user, world.own["smtp"], f"from-{user}@sender.test",
                   world.address(user))
            for user in (self.moved, self.reader, *self.held)]

    def begin(self):
        """All the workers stand in their work, and mail flows."""
        flipping, world = self.flipping, self.world
        for sender in self.senders:
            sender.start()
        stops = [flipping.imap.stop(rb" UID FETCH", world.address(user))
                 for user in self.copied]
        for user in self.copied:
            log_in(world, user)
        for stop in stops:
            stop.wait()
        for user in self.held:
            flipping.hold(user)
        assert all(flipping.is_held(user) for user in self.held)
        self.workers = set(world.pids("worker"))
        assert len(self.workers) >= 7

    def all_back(self):
        rows = {row["address"]: row
                for row in self.world.mailhaul("account", "list")["accounts"]}
        return not self.workers & set(self.world.pids("worker")) and all(
            rows[self.world.address(user)]["route"] == "legacy"
            for user in self.held)

    def check_mail_flows(self):
        for sender in self.senders:
            seen = len(sender.accepted)
            wait_until(lambda s=sender, n=seen: len(s.accepted) > n, 30)

    def check_ends_well(self):
        """Everybody is local, with every message exactly once."""
        for sender in self.senders:
            sender.stop()
        for user in (self.reader, *self.held, *self.copied):
            self.flipping.await_moved(user)
        for user, before in self.before.items():
            self.flipping.check_same(before, user)
        for sender in self.senders:
            assert not sender.refused
            # what legacy took in the last moment comes by the trail
            wait_until(lambda s=sender: set(s.accepted) <= set(
                copies(self.world, s.name, "local")), 30, 0.5)
            found = copies(self.world, sender.name, "local")
            assert all(found[serial] == 1 for serial in sender.accepted
                       if serial not in sender.unsure)


def check_frozen(story):
    """Nothing new begins, the rest goes on."""
    flipping, world = story.flipping, story.world
    stranger = flipping.newcomer()
    log_in(world, stranger)
    world.pop3(stranger).quit()
    assert world.account(stranger) is None
    address = world.address(story.held[0])
    assert "is frozen" in refused(world, "cutover", address)
    assert "is frozen" in refused(world, "migrate", address)
    assert "is frozen" in refused(world, "migrate", "--domain",
                                  domain_of(flipping))
    story.check_mail_flows()
    # what an operator asks for by name is done; mail flows meanwhile
    done = world.mailhaul("verify", world.address(story.moved), check=False)
    assert "differences" in json.loads(done.stdout)["accounts"][0]
    [told] = world.mailhaul("status")["freezes"]
    assert told["reason"] == "too many holds" and "uid 0" in told["by"]
    shown = world.mailhaul("domain", "show", domain_of(flipping))
    assert shown["frozen"] and shown["freezes"] == [told]
    # deltas have been due all the while
    for _ in range(3):
        assert running(world, "initial", "delta", "final") == []
        time.sleep(0.5)
    assert all(world.account(user)["copy"] == "initial"
               for user in story.copied)
    return stranger


def test_freeze_amid_copies_holds_sessions_and_mail(flipping):
    story, world = Story(flipping), flipping.world
    story.begin()
    freeze(flipping, "--reason", "too many holds")
    wait_until(story.all_back, AT_ONCE_S)
    flipping.calm()
    late = world.send(story.moved, "legacy")
    stranger = check_frozen(story)
    assert story.session.noop()[0] == "OK"
    flipping.await_place(story.moved, late)  # by the trail
    rows = [world.account(user) for user in story.held]
    assert [row["hold_failures"] for row in rows] == [0, 0, 0]
    assert all(row["wants_flip"] for row in rows)

    world.kill("state")
    check_frozen(story)
    assert story.session.noop()[0] == "OK"
    world.restart_node()
    check_frozen(story)

    world.mailhaul("thaw", "--domain", domain_of(flipping))
    for user in story.held:  # an operator has asked for them before
        flipping.await_moved(user)
    flipping.set_domain("--cutover", "auto")
    story.check_ends_well()
    log_in(world, stranger)
    flipping.await_moved(stranger)
    flipping.set_domain("--cutover", "manual")
    events = [(e["event"], e["address"]) for e in world.mailhaul(
        "audit", "--limit", "1000")["entries"]]
    assert ("freeze", domain_of(flipping)) in events
    assert ("thaw", domain_of(flipping)) in events


def test_lesson_under_way_when_the_freeze_comes(flipping):
    """The login is let through; when its user becomes an account later, the
    session is known to the hold."""
    world, user = flipping.world, flipping.newcomer()
    stop = flipping.imap.stop(rb"EXAMINE", world.address(user))
    login = Background(world.imap, user)
    stop.wait()
    freeze(flipping)
    stop.release()
    session = login.result()
    assert session.select("INBOX")[0] == "OK"
    assert world.account(user) is None
    world.mailhaul("thaw")
    world.imap(user).logout()
    world.wait_account(user, copy="delta", clean=True)
    assert session.noop()[0] == "OK"
    flipping.cutover(user)
    flipping.await_moved(user)
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        session.noop()


def test_each_way_to_freeze_and_to_thaw(flipping):
    world, domain = flipping.world, domain_of(flipping)
    assert "nothing is frozen" in refused(world, "thaw")
    assert "no such domain" in refused(world, "freeze", "--domain", "no.test")
    assert "no domain has" in refused(world, "freeze", "--host", "no.test")
    assert world.mailhaul("freeze", "--host", "127.0.0.1")["domains"] == 1
    assert not world.mailhaul("freeze", "--host", "127.0.0.1")["is_new"]
    world.mailhaul("freeze")
    freeze(flipping)
    assert world.mailhaul("thaw", "--host", "127.0.0.1")["thawed"] == \
        ["127.0.0.1"]
    assert "no freeze of host" in refused(world, "thaw", "--host", "127.0.0.1")
    assert world.mailhaul("domain", "show", domain)["frozen"]
    left = world.mailhaul("thaw", "--domain", domain)["freezes"]
    assert [f["kind"] for f in left] == ["all"]
    world.mailhaul("thaw")
    assert not world.mailhaul("domain", "show", domain)["frozen"]


def test_freeze_while_no_daemon_runs(flipping):
    world, user = flipping.world, flipping.newcomer()
    world.stop("mailhauld")
    freeze(flipping, "--reason", "moving day is off")
    world.run_node()
    log_in(world, user)
    assert world.account(user) is None
    world.stop("mailhauld")
    world.mailhaul("thaw")
    world.run_node()
    log_in(world, user)
    world.wait_account(user, copy="delta", clean=True)


# who is taken in

def place(address):
    """The law of `--admit`, once more."""
    first = hashlib.sha256(address.encode()).digest()[:8]
    return int.from_bytes(first, "big") % 1_000_000


def on_disk(world, text):
    """Files of the state directory in which it stands, but for the session
    lines, which are a log: databases, ledgers, journals."""
    state = world.folder / "state"
    return [path for path in state.rglob("*") if path.is_file() and
            path.parent.name != "trace" and
            text.encode() in path.read_bytes()]


def test_share_takes_in_who_it_means_and_records_nobody_else(flipping):
    world = flipping.world
    users = sorted((flipping.newcomer(1) for _ in range(6)),
                   key=lambda user: place(world.address(user)))
    share = place(world.address(users[2])) + 1
    flipping.set_domain("--admit", f"{share // 10000}.{share % 10000:04}%")
    for user in users:
        log_in(world, user)
        world.pop3(user).quit()
    for user in users[:3]:
        world.wait_account(user, copy=("initial", "delta"))
        assert on_disk(world, world.address(user))
    for user in users[3:]:
        assert world.account(user) is None
        assert on_disk(world, world.address(user)) == []


def test_list_takes_in_by_name(flipping):
    world, domain = flipping.world, domain_of(flipping)
    named, filed, other, late = (flipping.newcomer(1) for _ in range(4))
    flipping.set_domain("--admit", "list")
    listing = world.folder / "pilots"
    listing.write_text(f"# pilots\n{world.address(filed).upper()}\n\n")
    shown = world.mailhaul("domain", "admit", domain, world.address(named),
                           "--file", listing)
    assert shown["admitted"] == sorted(map(world.address, (named, filed)))
    assert "is not in" in refused(world, "domain", "admit", domain,
                                  world.address(late), "x@elsewhere.test")
    for user in (named, filed, other, late):
        log_in(world, user)
    assert world.account(named) and world.account(filed)
    assert not world.account(other) and not world.account(late)
    world.mailhaul("domain", "unadmit", domain, world.address(named))
    assert world.account(named)  # who is in stays in
    # a list of the operator's own is above it
    lines = f"{world.address(other)},,{world.password(other)}\n"
    listing.write_text(lines)
    world.mailhaul("migrate", "--csv", listing)
    world.wait_account(other, copy="delta")


def test_rate_lets_the_others_through(flipping):
    world = flipping.world
    users = [flipping.newcomer(1) for _ in range(4)]
    flipping.set_domain("--admit-rate", "1/min")
    with contextlib.ExitStack() as open_ones:
        for user in users:
            session = world.imap(user)
            open_ones.callback(session.logout)
            assert session.select("INBOX")[0] == "OK"
    known = [user for user in users if world.account(user)]
    assert known == users[:1]


def test_mistakes_in_the_call_are_named(flipping):
    world, domain = flipping.world, domain_of(flipping)
    for args, says in (
            (("--admit", "1"), "not a share"),
            (("--admit-rate", "5"), "not a rate"),
            (("--cutover", "Sa 22:00-05:00 Mars/X"), "no such time zone"),
            (("--cutover", "sometimes"), "sometimes"),
            (("--blackout", "2026-02-30"), "not a day")):
        done = world.mailhaul("domain", "set", domain, *args, check=False)
        assert done.returncode == 2 and says in done.stderr, done
