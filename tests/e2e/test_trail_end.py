"""The command after a flip, strangers, and the end of trails: `domain close`."""

import json
import os
import sqlite3
import threading
import time

import pytest

from fakes.mx import Mx
from lib.mailbox import append
from lib.waiting import wait_until
from test_keys import copy_state, key_file, wrapped_ids
from test_trail import subjects

# only the command brings late mail over: the trail rests for an hour
WORLD = {"cutover": "auto", "delta_seconds": 1, "more_users": 12,
         "trail_inbox_seconds": 3600, "trail_seconds": 3600}


@pytest.fixture(scope="module")
def users(shared_world):
    return iter(f"user{n:03}" for n in range(1, 13))


@pytest.fixture
def mx():
    made = Mx()
    yield made
    made.close()


class Domain:
    """A domain of its own on the same servers, with accounts that flipped and
    nothing that stands against its end; its MX is a fake."""

    count = 0

    def __init__(self, world, mx, users=("ann", "ben")):
        Domain.count += 1
        self.world, self.mx = world, mx
        self.name = f"close{Domain.count}.test"
        self.users = [f"{user}@{self.name}" for user in users]
        for user in self.users:
            world.add_legacy_user(user)
        world.mailhaul("domain", "add", self.name, *world.legacy_urls()[:-2],
                       "--smtp", mx.url, "--cutover", "auto",
                       "--quiet-days", "0", "--rollback-days", "0")
        world.mailhaul("domain", "enable", self.name)

    def move(self):
        for user in self.users:
            wait_until(lambda u=user: self._logs_in(u), 20, 0.2)
        for user in self.users:
            self.world.wait_account(user, route="local", copy="trail")
        return self

    def _logs_in(self, user):
        # Dovecot looks at its users once a second at most
        try:
            self.world.imap(user).logout()
        except Exception as e:  # pylint: disable=broad-except
            if "AUTHENTICATIONFAILED" in str(e):
                return False
            raise
        return True

    def set(self, *options):
        self.world.mailhaul("domain", "set", self.name, *options)

    def close(self, *options):
        """(exit status, document)"""
        done = self.world.mailhaul("domain", "close", self.name, *options,
                                   check=False)
        return done.returncode, json.loads(done.stdout)

    def bars(self, *options):
        status, document = self.close(*options)
        assert status == 1 and document["state"] == "refused", document
        assert self.world.mailhaul("domain", "show",
                                   self.name)["closed_at"] is None
        assert {self.world.account(u)["copy"] for u in self.users} != {"done"}
        return {bar["bar"]: (bar["count"], bar["first"])
                for bar in document["bars"]}

    def assert_closed(self):
        shown = self.world.mailhaul("domain", "show", self.name)
        assert shown["closed_at"] and not shown["enabled"]
        for user in self.users:
            row = self.world.account(user)
            assert (row["route"], row["copy"]) == ("local", "done")
            assert row["trail_ended_at"] and not row["password_sealed"]
            assert not [j for j in row["jobs"] if j["kind"] == "trail"]


# ---- the command after a flip

def on_flip(world, command):
    world.mailhaul("domain", "set", world.settings.domain, "--on-flip",
                   command)


def test_a_mail_from_a_legacy_customer_arrives_within_a_minute_and_once(
        shared_world, users):
    world, user = shared_world, next(users)
    folder = world.legacy_postfix.folder / "forward"
    on_flip(world, str(folder / "to-mailhaul"))
    world.move(user)
    row = world.wait_account(user, on_flip="done")
    assert row["on_flip_attempts"] == 1
    # Postfix sees a changed table within 10 s; until then mail stays there,
    # and is the trail's, which would come in an hour
    wait_until(lambda: forwards(world, user), 30, 0.5)
    began = time.monotonic()
    serial = world.send(user, "legacy", sender=world.address("erin"))
    wait_until(lambda: serial in subjects(world, user), 60, 0.3)
    assert time.monotonic() - began < 60
    world.mailhaul("migrate", world.address(user))  # a pass of the trail
    wait_until(lambda: not [j for j in world.account(user)["jobs"]
                            if j["kind"] == "trail" and j["running"]], 30)
    world.send(user, "legacy", serial="after-the-pass")
    wait_until(lambda: "after-the-pass" in subjects(world, user), 60, 0.3)
    assert subjects(world, user).count(serial) == 1
    assert serial not in subjects(world, user, "legacy")
    on_flip(world, "")


def forwards(world, user):
    """A mail to legacy comes here at once."""
    serial = world.send(user, "legacy")
    wait_until(lambda: serial in subjects(world, user, "legacy") +
               subjects(world, user), 20, 0.2)
    return serial in subjects(world, user)


def test_the_command_gets_names_and_no_secret_of_ours(shared_world, users):
    world, user = shared_world, next(users)
    seen = world.folder / "state" / f"seen-{user}"
    on_flip(world, f'(env; echo "$1 $2") > {seen}.part; mv {seen}.part {seen}')
    world.move(user)
    world.wait_account(user, on_flip="done")
    lines = seen.read_text().splitlines()
    address = world.address(user)
    assert f"MAILHAUL_ADDRESS={address}" in lines
    assert f"MAILHAUL_LEGACY_USER={address}" in lines
    assert f"MAILHAUL_DOMAIN={world.settings.domain}" in lines
    assert f"MAILHAUL_LOCAL={user}" in lines and "MAILHAUL_ATTEMPT=1" in lines
    assert f"{address} {address}" in lines
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert names <= {"PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"} | {
        n for n in names if n.startswith("MAILHAUL_")}
    assert world.password(user) not in seen.read_text()
    on_flip(world, "")


def test_a_command_that_fails_is_seen_and_tried_again(shared_world, users):
    world, user = shared_world, next(users)
    mark = world.folder / "state" / f"mark-{user}"
    on_flip(world, f'echo "not yet: \033[1m"; test -e {mark}')
    world.move(user)
    row = world.wait_account(user, on_flip="failed")
    assert row["on_flip_attempts"] >= 1
    stuck = world.mailhaul("status")["stuck"]
    assert world.address(user) in [a["address"] for a in stuck]
    mark.touch()
    row = world.wait_account(user, on_flip="done")
    assert row["on_flip_attempts"] >= 2
    log = world.node.log.read_text(errors="replace")
    assert "exit status 1" in log and "\033[1m" not in log
    on_flip(world, "")


def test_a_command_runs_again_after_kill_9_of_state(shared_world, users):
    world, user = shared_world, next(users)
    mark = world.folder / "state" / f"mark-{user}"
    on_flip(world, f"echo run >> {mark}; test $(wc -l < {mark}) -gt 1 || "
                   "sleep 300")
    world.move(user)
    wait_until(mark.exists)
    assert world.account(user)["on_flip"] == "due"
    world.kill("state")
    world.wait_account(user, on_flip="done")
    assert mark.read_text() == "run\nrun\n"
    on_flip(world, "")


@pytest.mark.world(on_flip_seconds=1)
def test_a_command_that_never_ends_is_killed_with_its_children(world):
    mark = world.folder / "state" / "mark"
    on_flip(world, f"(sleep 600; :) & echo $! > {mark}.part; "
                   f"mv {mark}.part {mark}; wait")
    world.move("alice")
    world.wait_account("alice", on_flip="failed")
    pid = int(mark.read_text())
    wait_until(lambda: not alive(pid), 10)
    assert "killed after 1 s" in world.node.log.read_text()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ---- strangers

def test_strangers_are_counted_until_they_are_accounts(shared_world, users):
    world, user = shared_world, next(users)
    domain, address = world.settings.domain, world.address(user)
    for _ in range(3):
        world.send(user, "mailhaul")
    world.send(f"{user}+tag@{domain}", "mailhaul")
    world.send(f"sales@{domain}", "mailhaul")

    def listed():
        rows = world.mailhaul("domain", "strangers", domain)["strangers"]
        return {r["address"]: r["mails"] for r in rows}
    wait_until(lambda: listed().get(address) == 4 and
               listed().get(f"sales@{domain}") == 1, 20, 0.2, listed)
    assert world.mailhaul("domain", "show", domain)["strangers"] >= 2
    with pytest.raises(Exception, match="550|551|554"):
        world.send(f"nobody-at-all@{domain}", "mailhaul")
    world.move(user)
    assert address not in listed()
    world.send(user, "mailhaul")
    # the next who is told of pushes out what was counted before
    world.send(f"team@{domain}", "mailhaul")
    wait_until(lambda: f"team@{domain}" in listed(), 20, 0.2)
    assert address not in listed()
    assert f"nobody-at-all@{domain}" not in listed()


def test_mail_goes_on_while_nobody_counts_strangers(shared_world):
    world, domain = shared_world, shared_world.settings.domain
    before = {r["address"]: r["mails"] for r in world.mailhaul(
        "domain", "strangers", domain)["strangers"]}.get(f"team@{domain}", 0)
    world.kill("state")
    for _ in range(5):
        wait_until(lambda: sends(world, f"team@{domain}"), 30, 0.2)

    def count():
        rows = world.mailhaul("domain", "strangers", domain)["strangers"]
        return {r["address"]: r["mails"] for r in rows}.get(f"team@{domain}")
    wait_until(lambda: count() == before + 5, 20, 0.2)


def sends(world, recipient):
    try:
        return world.send(recipient, "mailhaul")
    except OSError:  # smtplib's exceptions too: 451 while state is away
        return None


# ---- domain close: what stands against it, one by one

def test_close_is_refused_for_each_reason_one_by_one(shared_world, mx):
    world = shared_world
    domain = Domain(world, mx).move()
    ann, ben = domain.users

    mx.answer = "250 ok"
    count, first = domain.bars()["legacy_accepts"]
    assert count == 3 and ann in first and ben in first
    mx.answer = lambda a: "250 ok" if a == ben else "550 5.1.1 gone"
    assert domain.bars() == {"legacy_accepts": (1, [ben])}
    mx.answer = lambda a: "550 gone" if a in domain.users else "250 ok"
    assert domain.bars()["legacy_accepts"][0] == 1  # whoever it is
    mx.answer = "450 4.2.1 greylisted, come back"
    count, first = domain.bars()["legacy_unclear"]
    assert count == 3 and "450 4.2.1 greylisted" in first[0]
    mx.answer = "552 5.2.2 mailbox full"
    assert domain.bars()["legacy_unclear"][0] == 3
    mx.answer = "550 5.1.1 gone"

    domain.set("--quiet-days", "1")
    assert domain.bars() == {"late_mail": (2, [ann, ben])}
    domain.set("--quiet-days", "0", "--rollback-days", "1")
    assert domain.bars() == {"way_back": (2, [ann, ben])}
    domain.set("--rollback-days", "0")
    world.mailhaul("account", "pause", ann)
    assert domain.bars() == {"paused": (1, [ann])}
    world.mailhaul("account", "resume", ann)
    assert all("<>" in sender for sender in mx.senders)


def test_close_is_refused_while_somebody_is_on_legacy(shared_world, mx):
    world = shared_world
    domain = Domain(world, mx, ["ann", "ben", "tom"])
    tom = domain.users.pop()
    domain.move()
    domain.set("--cutover", "manual")
    wait_until(lambda: domain._logs_in(tom), 20, 0.2)
    world.wait_account(tom, copy="delta")
    assert domain.bars() == {"on_legacy": (1, [tom])}


def test_close_is_refused_when_legacy_is_not_there(shared_world, mx):
    domain = Domain(shared_world, mx, ["ann"]).move()
    mx.close()
    count, first = domain.bars()["legacy_unclear"]
    assert count == 2 and "onnect" in first[0]
    other = Mx(banner="554 no service here")
    domain.set("--smtp", other.url)
    assert domain.bars()["legacy_unclear"][0] == 2
    other.close()
    domain.set("--smtp", "")
    assert domain.bars()["not_probed"][0] == 2


def test_the_last_pass_brings_what_legacy_took_just_before(shared_world, mx):
    """While it was being asked, into a folder that other passes leave out."""
    world = shared_world
    domain = Domain(world, mx, ["ann"]).move()
    ann = domain.users[0]
    with world.imap(ann, "legacy") as legacy:
        legacy.create("Deep")

    def answer(address):
        if address == ann:
            with world.imap(ann, "legacy") as imap:
                append(imap, "Deep", "just before")
        return "550 5.1.1 gone"
    mx.answer = answer
    # its first passes come 1, 5, 15 and 60 s after the flip: not now
    wait_until(lambda: world.account(ann)["jobs"][0]["due_at"] / 1000
               > time.time() + 5, 60, 0.2)
    status, document = domain.close()
    assert status == 0, document
    assert subjects(world, ann, folder="Deep") == ["just before"]
    assert world.account(ann)["late_mail_at"]
    domain.assert_closed()


def test_late_mail_in_the_last_pass_keeps_the_domain_open(shared_world, mx):
    world = shared_world
    domain = Domain(world, mx, ["ann"]).move()
    ann = domain.users[0]
    wait_until(lambda: world.account(ann)["jobs"][0]["due_at"] / 1000
               > time.time() + 5, 60, 0.2)
    with sqlite3_stopped(world) as db:  # it flipped two days ago
        db.execute("UPDATE accounts SET flipped_at = flipped_at - 172800000 "
                   "WHERE address = ?", (ann,))
    domain.set("--quiet-days", "1")
    with world.imap(ann, "legacy") as legacy:
        append(legacy, "INBOX", "late")
    assert domain.bars() == {"late_mail": (1, [ann])}
    assert "late" in subjects(world, ann)
    assert domain.bars() == {"late_mail": (1, [ann])}  # before any pass


def test_close_is_refused_when_the_last_pass_fails(shared_world, mx):
    world = shared_world
    domain = Domain(world, mx, ["ann"]).move()
    world.set_legacy_password(domain.users[0], "changed")
    count, first = domain.bars()["pass_failed"]
    assert count == 1 and domain.users[0] in first[0]


# ---- closing

def test_close_ends_the_trails_and_wipes_the_passwords(shared_world, mx):
    world = shared_world
    domain = Domain(world, mx).move()
    ann, ben = domain.users
    assert world.account(ann)["password_sealed"]
    status, document = domain.close()
    assert status == 0 and document["state"] == "closed", document
    assert document["probe"]["refused"] == 3
    assert sorted(mx.heard)[:2] == [ann, ben]
    domain.assert_closed()
    world.imap(ann).logout()  # local goes on
    serial = world.send(ben, "mailhaul")
    wait_until(lambda: serial in subjects(world, ben), 20, 0.2)
    # nobody else is taken in, or sent to legacy
    world.add_legacy_user(f"tom@{domain.name}")
    time.sleep(1.1)  # Dovecot has seen him by then
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        world.imap(f"tom@{domain.name}")
    assert world.account(f"tom@{domain.name}") is None
    with pytest.raises(Exception, match="55"):
        world.send(f"tom@{domain.name}", "mailhaul")
    done = world.mailhaul("account", "pause", ann, check=False)
    assert done.returncode == 1
    # nor is legacy asked for a password that local does not know
    assert world.account(ben)["password_state"] == "learnt"
    world.set_legacy_password(ben, "other")
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        world.imap(ben, password="other")
    assert not world.account(ben)["password_sealed"]
    audit = world.mailhaul("audit", ann)["entries"]
    assert "trail-ended" in [e["event"] for e in audit]
    assert domain.close()[0] == 0  # again: it is closed
    wiped(world, domain)
    opened = world.mailhaul("domain", "reopen", domain.name)
    assert (opened["trails"], opened["without_password"]) == (0, 2)
    shown = world.mailhaul("domain", "show", domain.name)
    assert shown["enabled"] and shown["closed_at"] is None
    world.imap(f"tom@{domain.name}").logout()


def test_after_a_close_the_keys_that_remain_open_no_earlier_copy(
        shared_world, mx):
    world = shared_world
    domain = Domain(world, mx, ["ann"]).move()
    other = Domain(world, mx, ["ben"]).move()
    copy = copy_state(world, "before-close")
    sealed_to = wrapped_ids(copy)
    assert sealed_to <= set(world.mailhaul("key", "show")["keys"])
    status, document = domain.close()
    assert status == 0 and document["key"] == "rotating", document
    wait_until(lambda: len(world.mailhaul("key", "show")["keys"]) == 1, 60, 0.2)
    assert not sealed_to & set(world.mailhaul("key", "show")["keys"])
    # who is not at the end of his trail has his password, by the new key
    assert world.account(other.users[0])["password_sealed"]
    newest = world.mailhaul("key", "show")["keys"]
    status, document = other.close("--keep-key")
    assert status == 0 and "key" not in document
    assert world.mailhaul("key", "show")["keys"] == newest
    # asked again, as somebody does who was interrupted there; whatever has
    # become of the file meanwhile
    os.utime(key_file(world))
    assert other.close()[1]["key"] == "rotating"
    wait_until(lambda: not set(world.mailhaul("key", "show")["keys"]) &
               set(newest), 60, 0.2)
    assert "key" not in other.close()[1]


def wiped(world, domain):
    with sqlite3.connect(f"file:{world.folder}/state/control.db?mode=ro",
                         uri=True) as db:
        rows = db.execute(
            "SELECT s.wrapped_key, s.sealed, s.password_hash <> '' FROM "
            "secrets s JOIN accounts a ON a.id = s.account_id JOIN domains d "
            "ON d.id = a.domain_id WHERE d.name = ?", (domain.name,))
        assert rows.fetchall() == [(None, None, 1)] * len(domain.users)


def test_force_wants_a_reason_and_goes_over_everything(shared_world, mx):
    world = shared_world
    domain = Domain(world, mx, ["ann", "ben", "tom"])
    tom = domain.users.pop()
    domain.move()
    domain.set("--cutover", "manual", "--quiet-days", "9",
               "--rollback-days", "9")
    wait_until(lambda: domain._logs_in(tom), 20, 0.2)
    world.wait_account(tom, copy="delta")
    world.mailhaul("account", "pause", domain.users[0])
    mx.close()  # legacy is gone
    done = world.mailhaul("domain", "close", domain.name, "--force",
                          check=False)
    assert done.returncode == 2 and "--reason" in done.stderr
    status, document = domain.close("--force", "--reason", "it burnt down")
    assert status == 0, document
    domain.assert_closed()
    assert world.account(tom)["route"] == "legacy"
    entry = next(e for e in world.mailhaul("audit")["entries"]
                 if e["event"] == "domain close")
    assert entry["reason"] == "it burnt down"
    for word in ("on_legacy=1", "late_mail=2", "way_back=2", "paused=1",
                 "legacy_unclear=4"):
        assert word in entry["detail"], (word, entry)


def test_many_are_asked_of_a_server_that_cuts_and_set_aside_is_a_bar(
        shared_world, mx):
    """A server that hangs up after a few refusals is connected to again."""
    world = shared_world
    mx.cut_after = 4
    domain = Domain(world, mx, ["ann"]).move()
    domain.set("--cutover", "manual")
    with sqlite3_stopped(world) as db:
        domain_id = db.execute("SELECT id FROM domains WHERE name = ?",
                               (domain.name,)).fetchone()[0]
        for n in range(60):
            db.execute("INSERT INTO strangers VALUES (?, ?, 1, 1, 1)",
                       (f"s{n:02}@{domain.name}", domain_id))
        db.execute("UPDATE accounts SET set_aside = 1 WHERE address = ?",
                   (domain.users[0],))
    assert domain.bars() == {"set_aside": (1, domain.users)}
    world.mailhaul("migrate", domain.users[0])  # its ledger knows of none
    world.wait_account(domain.users[0], set_aside=0)
    mx.heard.clear()
    status, document = domain.close()
    assert status == 0, document
    assert document["probe"]["refused"] == 62
    assert len(set(mx.heard)) == 62 and mx.opened > 15


def test_a_domain_without_accounts_is_closed_at_once(shared_world, mx):
    domain = Domain(shared_world, mx, [])
    mx.answer = "250 ok"
    status, document = domain.close()
    assert status == 1
    assert [b["bar"] for b in document["bars"]] == ["legacy_accepts"]
    mx.answer = "550 5.1.1 gone"
    status, document = domain.close()
    assert status == 0 and document["state"] == "closed", document
    done = shared_world.mailhaul("domain", "close", "nobody.test", check=False)
    assert done.returncode == 1


# ---- kill -9

class sqlite3_stopped:
    """The control db of a world whose mailhauld is stopped meanwhile."""

    def __init__(self, world):
        self.world = world

    def __enter__(self):
        self.world.stop("mailhauld")
        self.db = sqlite3.connect(self.world.folder / "state" / "control.db")
        return self.db

    def __exit__(self, *exc):
        self.db.commit()
        self.db.close()
        self.world.run_node()


def test_state_killed_between_the_decision_and_the_ends_goes_on(shared_world,
                                                                mx):
    world = shared_world
    domain = Domain(world, mx).move()
    with sqlite3_stopped(world) as db:  # as it is on disk then
        db.execute("UPDATE domains SET closed_at = 1, is_enabled = 0 "
                   "WHERE name = ?", (domain.name,))
    for user in domain.users:
        world.wait_account(user, copy="done")
    domain.assert_closed()
    wiped(world, domain)


def test_state_killed_in_the_last_pass_changes_nothing(shared_world, mx):
    world = shared_world
    domain = Domain(world, mx).move()
    ended = threading.Event()
    result = []

    def close():
        result.append(domain.close())
        ended.set()
    world.stop("legacy-dovecot")  # the passes fail, and are tried again
    closer = threading.Thread(target=close)
    closer.start()
    try:
        wait_until(lambda: len(mx.heard) >= 3, 20)
        time.sleep(0.5)  # the passes begin; at whatever moment it is killed
        world.kill("state")
        closer.join(60)
    finally:
        world.start("legacy-dovecot")
        world.wait_ready("legacy-dovecot")
    assert result and result[0][0] == 1
    shown = world.mailhaul("domain", "show", domain.name)
    assert shown["closed_at"] is None and shown["enabled"]
    assert world.account(domain.users[0])["copy"] == "trail"
    assert domain.close()[0] == 0
    domain.assert_closed()
