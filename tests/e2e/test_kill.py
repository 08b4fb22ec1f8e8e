"""kill -9 of any process at random moments of copy, flip and trail, while the
user logs in all the time and mail comes from both sides: nothing is lost,
nothing doubled, every byte in its place (promise 7).

MAILHAUL_KILL_SECONDS: how long new mailboxes are begun (at least one is);
MAILHAUL_KILL_SEED: repeat what a failed run has printed."""

import imaplib
import os
import random
import re
import threading
import time

from lib.senders import Sender
from lib.snapshot import differences, find_serials
from lib.waiting import wait_until

SECONDS = float(os.environ.get("MAILHAUL_KILL_SECONDS", "40"))
ROUNDS = 40  # mailboxes at most
WORLD = {"cutover": "manual", "delta_seconds": 1, "more_users": ROUNDS}
VICTIMS = ["worker"] * 5 + ["jobs", "state", "state", "login", "smtp",
                            "master"]


class Returning(threading.Thread):
    """A client that logs in again and again. refusals: what sounded like a
    wrong password or was no answer; sides: what it saw, one after the other."""

    def __init__(self, world, user, legacy_uidnext):
        super().__init__(daemon=True)
        self.world, self.user = world, user
        self.least_local = legacy_uidnext + 1000
        self.refusals, self.sides, self.logins = [], [], 0
        self.ending = threading.Event()
        self.start()

    def run(self):
        while not self.ending.is_set():
            try:
                self._look()
            except (imaplib.IMAP4.abort, OSError):
                pass  # its process was killed
            except imaplib.IMAP4.error as e:
                if "UNAVAILABLE" not in str(e):
                    self.refusals.append(str(e))
            self.ending.wait(0.05)

    def _look(self):
        imap = self.world.imap(self.user)
        imap.select("INBOX", readonly=True)
        uidnext = int(imap.response("UIDNEXT")[1][0])
        side = "local" if uidnext >= self.least_local else "legacy"
        if side not in self.sides[-1:]:
            self.sides.append(side)
        self.logins += 1
        imap.logout()

    def stop(self):
        self.ending.set()
        self.join(60)
        assert not self.is_alive(), "a login hangs"


class Killer:
    """Kills one process after the other, as the seed says."""

    def __init__(self, world, seed):
        self.world, self.random = world, random.Random(seed)
        self.done = []

    def kill(self, victims=VICTIMS):
        victim = self.random.choice(victims)
        pause = self.random.uniform(0, 0.4)
        if victim == "worker":
            deadline = time.monotonic() + 1.5
            while not self.world.pids("worker"):
                if time.monotonic() > deadline:
                    return
                time.sleep(0.002)
            pause /= 2
        time.sleep(pause)
        self.done.append((victim, self.world.kill(victim)))
        if victim == "master":
            self.world.restart_node()


def try_cutover(world, user):
    """Asks for the flip; what the account is now, {} if state is away."""
    world.mailhaul("cutover", world.address(user), check=False)
    return world.account(user) or {}


def without_serials(boxes, serials):
    """The snapshot without the senders' messages."""
    for places in serials.values():
        for folder, uid in places:
            del boxes[folder].messages[uid]
    return boxes


def look(world, user, side):
    """(everything but the senders' messages, {serial: places})"""
    imap = world.imap(user, side)
    serials = find_serials(imap)
    imap.logout()
    return without_serials(world.snapshot(user, side), serials), serials


def copy_and_flip(world, killer, user):
    """Kills all the way, then lets it come to its end."""
    for _ in range(killer.random.randrange(3, 7)):
        killer.kill()
    wait_until(lambda: (world.account(user) or {}).get("copy") == "delta", 90,
               0.2, world.log_tail)
    for _ in range(killer.random.randrange(2, 6)):
        if try_cutover(world, user).get("route") == "local":
            break
        killer.kill()
    wait_until(lambda: try_cutover(world, user).get("route") == "local", 90, 2,
               world.log_tail)
    for _ in range(2):  # in the trail
        killer.kill()


def check_senders(world, user, senders, killer):
    accepted = [s for sender in senders for s in sender.accepted]
    for sender in senders:
        assert sender.refused == {}, sender.refused

    def lost():
        return set(accepted) - look(world, user, "local")[1].keys()
    wait_until(lambda: not lost(), 60, 1, lambda: f"lost: {lost()}")
    local, serials = look(world, user, "local")
    doubled = {s for s, places in serials.items() if len(places) > 1}
    unsure = {s for sender in senders for s in sender.unsure}
    assert doubled <= unsure, (doubled, unsure)
    assert len(doubled) <= sum(v in ("smtp", "master") for v, _ in killer.done)
    return local, accepted


def one_mailbox(world, killer, user):
    world.fill(user, messages=1000, folders=10, total=8_000_000)
    before = world.snapshot(user, "legacy")
    address = world.address(user)
    senders = [
        Sender(f"outside-{user}", world.own["smtp"], "x@sender.test", address,
               0.15, world.ca_file),
        Sender(f"colleague-{user}", world.legacy["smtp"], "bob@example.test",
               address, 0.3)]
    client = Returning(world, user, before["INBOX"].uid_next + 500)
    for sender in senders:
        sender.start()
    wait_until(lambda: world.account(user), 30)
    copy_and_flip(world, killer, user)
    client.stop()
    for sender in senders:
        sender.stop()
    assert client.refusals == [] and client.logins > 0
    assert client.sides in (["legacy", "local"], ["local"], ["legacy"])
    local, accepted = check_senders(world, user, senders, killer)
    assert differences(before, local) == []
    assert differences(before, look(world, user, "legacy")[0]) == []
    assert world.mailhaul("verify", "--full", address)
    print(f"{user}: {client.logins} logins, {len(accepted)} messages sent, "
          f"killed {re.sub('[^a-z0-9, ]', '', str(killer.done))}")
    killer.done.clear()


def test_kill_9_at_random_moments(world):
    seed = int(os.environ.get("MAILHAUL_KILL_SEED") or random.randrange(10**9))
    print(f"MAILHAUL_KILL_SEED={seed}")
    killer = Killer(world, seed)
    began = time.monotonic()
    for n in range(1, ROUNDS + 1):
        one_mailbox(world, killer, f"user{n:03}")
        if time.monotonic() - began > SECONDS:
            break
