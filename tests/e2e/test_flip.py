"""The flip beside whatever a client or a sender is doing (promise 3), and with
processes that die in it (promise 7)."""

import imaplib
import random
import signal
import time

import pytest

from lib.snapshot import differences, find_serials
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "delta_seconds": 2}


@pytest.fixture
def copied(world):
    """alice's mailbox is copied and ready to flip."""
    world.fill("alice", messages=120, folders=6, total=600_000)
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    return world


def flip(world):
    world.mailhaul("cutover", "alice@example.test")


def await_flip(world, wait_s=40):
    world.wait_account("alice", wait_s, route="local")


def serials_on(world, side):
    imap = world.imap("alice", side)
    try:
        return find_serials(imap)
    finally:
        imap.logout()


def test_an_idle_session_is_ended_and_comes_back_to_local(copied):
    before = copied.snapshot("alice", "legacy")
    with copied.imap_wire("alice") as wire:
        wire.ok("SELECT INBOX")
        wire.line("x IDLE")
        assert wire.read_line().startswith(b"+")
        flip(copied)
        wire.read_to_end()
    await_flip(copied)
    assert differences(before, copied.snapshot("alice")) == []


def test_an_append_that_began_before_the_flip_is_on_local(copied):
    text = b"X-Serial: half\r\n\r\n" + b"x" * 5000 + b"\r\n"
    with copied.imap_wire("alice") as wire:
        wire.line("x APPEND INBOX {%d}" % len(text))
        assert wire.read_line().startswith(b"+")
        wire.send(text[:2000])
        flip(copied)
        time.sleep(1)
        try:
            wire.send(text[2000:] + b"\r\n")
            answer, _ = wire.finish("x")
        except (OSError, EOFError):
            answer = b"cut"
    await_flip(copied)
    found = len(serials_on(copied, "local").get("half", []))
    assert found == 1 if answer.startswith(b"OK") else found <= 1


def test_no_flip_while_a_pop3_session_is_open_and_its_deletions_hold(copied):
    pop = copied.pop3("alice")
    uidl = pop.uidl(1)
    pop.dele(1)
    flip(copied)
    time.sleep(2)
    assert copied.account("alice")["route"] != "local"
    pop.quit()
    flip(copied)
    await_flip(copied)
    pop = copied.pop3("alice")
    assert uidl.split()[2] not in {
        row.split()[1] for row in pop.uidl()[1]}
    pop.quit()


def test_a_message_in_data_at_the_flip_is_found_once(copied):
    with copied.smtp() as smtp:
        smtp.mail("x@sender.test")
        assert smtp.rcpt("alice@example.test")[0] == 250
        assert smtp.docmd("DATA")[0] == 354
        smtp.send(b"X-Serial: in-data\r\n\r\nfirst half\r\n")
        flip(copied)
        time.sleep(1)
        smtp.send(b"second half\r\n.\r\n")
        assert smtp.getreply()[0] == 250
    await_flip(copied)
    wait_until(lambda: len(serials_on(copied, "local").get("in-data", [])) == 1)


def test_logins_at_the_flip_are_served_by_one_side_or_the_other(copied):
    flip(copied)
    slowest, served = 0, 0
    until = time.monotonic() + 4
    while time.monotonic() < until:
        began = time.monotonic()
        imap = copied.imap("alice")
        slowest = max(slowest, time.monotonic() - began)
        served += 1
        imap.logout()
    await_flip(copied)
    assert served > 10 and slowest < 3


def test_a_flip_whose_last_delta_fails_goes_back_to_legacy(copied):
    copied.stop("legacy-dovecot")
    flip(copied)
    time.sleep(4)
    assert copied.account("alice")["route"] != "local"
    copied.start("legacy-dovecot")
    copied.wait_ready("legacy-dovecot")
    wait_until(lambda: copied.account("alice")["route"] == "legacy")
    wait_until(lambda: can_log_in(copied), 20, 0.5)


def can_log_in(world):
    try:
        world.imap("alice").logout()
        return True
    except (imaplib.IMAP4.error, OSError):
        return False


def insist_on_flip(world):
    """A hold that was broken off is begun again by itself only after a long
    pause: the administrator asks for it."""
    def flipped():
        if world.account("alice")["route"] == "local":
            return True
        world.mailhaul("cutover", "alice@example.test", check=False)
        return False
    wait_until(flipped, 120, 3, world.log_tail)


@pytest.mark.parametrize("role", ["state", "login", "smtp", "jobs", "worker",
                                  "master"])
def test_a_process_killed_in_the_flip_changes_nothing_of_the_result(
        copied, role):
    before = copied.snapshot("alice", "legacy")
    flip(copied)
    if role != "worker":
        time.sleep(random.uniform(0, 0.4))
    wait_until(lambda: copied.kill(role), 10, 0.005)
    if role == "master":
        copied.restart_node()
    wait_until(lambda: can_log_in(copied), 30, 0.2)
    insist_on_flip(copied)
    assert differences(before, copied.snapshot("alice")) == []
    copied.mailhaul("verify", "alice@example.test")


def test_a_new_generation_in_the_flip_changes_nothing_of_the_result(copied):
    before = copied.snapshot("alice", "legacy")
    with copied.imap_wire("alice") as wire:
        wire.ok("NOOP")
        flip(copied)
        copied.records.send("mailhauld", signal.SIGHUP)
        await_flip(copied)
        assert differences(before, copied.snapshot("alice")) == []


@pytest.mark.world(cutover="auto", delta_seconds=1)
def test_kill_9_at_random_moments_of_copy_and_flip(world):
    world.fill("alice", messages=1500, folders=10, total=20_000_000)
    before = world.snapshot("alice", "legacy")
    world.imap("alice").logout()
    chance = random.Random()
    seed = chance.randrange(10**9)
    print(f"seed {seed}")
    chance.seed(seed)
    for _ in range(12):
        time.sleep(chance.uniform(0.05, 0.8))
        role = chance.choice(["worker", "worker", "state", "jobs", "login",
                              "smtp", "master"])
        world.kill(role)
        if role == "master":
            world.restart_node()
    wait_until(lambda: can_log_in(world), 30, 0.2)
    insist_on_flip(world)
    assert differences(before, world.snapshot("alice")) == []
    assert differences(before, world.snapshot("alice", "legacy")) == []
    world.mailhaul("verify", "alice@example.test")
