"""Any process killed in a flip, mailhaul as a whole watched from outside
(promise 7); test_flip_crash.py opens each window on purpose."""

import imaplib
import random
import time

import pytest

from lib.snapshot import differences
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


def test_a_store_that_went_away_is_filled_again_before_the_flip(copied):
    before = copied.snapshot("alice", "legacy")
    maildir = copied.folder / "mail" / "example.test" / "alice" / "Maildir"
    maildir.rename(maildir.with_name("gone"))
    flip(copied)
    insist_on_flip(copied)
    assert differences(before, copied.snapshot("alice")) == []
