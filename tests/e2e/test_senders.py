"""Mail that keeps coming from four sides while its reader is copied, flipped
and trailed: every message in one place, and found there by who reads it
(promises 2, 3)."""

import threading
import time

import pytest

from lib.mailbox import append
from lib.senders import Sender
from lib.snapshot import find_serials
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "delta_seconds": 2}
FOUND_WITHIN_S = 30  # a trail every 2 s, on a machine with much to do


class Reader(threading.Thread):
    """Looks into her mailbox again and again, always through mailhaul.
    first_seen: {serial: time}; lost: what was there at one look and not at the
    next; longest_s: the longest a look has taken."""

    def __init__(self, world, user):
        super().__init__(daemon=True)
        self.world, self.user = world, user
        self.first_seen, self.lost, self.longest_s = {}, [], 0
        self.trouble = None
        self.ending = threading.Event()
        self.start()

    def run(self):
        seen = set()
        try:
            while not self.ending.is_set():
                began = time.monotonic()
                now = self._look()
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                if now is None:
                    continue
                self.lost += sorted(seen - now)
                for serial in now - seen:
                    self.first_seen[serial] = time.monotonic()
                seen = now
        except Exception as trouble:  # told by stop()
            self.trouble = trouble

    def _look(self):
        """The serials in her mailbox; None if the session was ended, which
        the flip may do."""
        imap = self.world.imap(self.user)
        try:
            found = set(find_serials(imap))
            imap.logout()
            return found
        except (imap.abort, OSError):
            return None

    def stop(self):
        self.ending.set()
        self.join(60)
        assert not self.is_alive(), "a look hangs"
        if self.trouble:
            raise self.trouble


def found_on(world, side, user):
    imap = world.imap(user, side)
    try:
        return find_serials(imap)
    finally:
        imap.logout()


def four_senders(world):
    her = world.address("alice")
    ours, legacys = world.own["smtp"], world.legacy["smtp"]
    return {s.name: s for s in (
        Sender("outside", ours, "x@sender.test", her, 0.1, world.ca_file),
        Sender("colleague", legacys, "bob@example.test", her, 0.2),
        Sender("alias", legacys, "y@sender.test", "sales@example.test", 0.2),
        Sender("reply", ours, her, "bob@example.test", 0.2))}


@pytest.mark.parametrize("prefix", [False, True], ids=["plain", "INBOX."])
def test_four_senders_through_copy_and_flip(make_world, prefix):
    world = make_world(legacy_prefix=prefix, **WORLD)
    world.fill("alice", messages=600, folders=8, total=6_000_000)
    senders = four_senders(world)
    for sender in senders.values():
        sender.start()
    wait_until(lambda: all(s.accepted for s in senders.values()), 30)
    reader = Reader(world, "alice")
    world.wait_account("alice", copy="delta")
    copied_at = time.monotonic()
    wait_until(lambda: len(senders["outside"].times) > 10 and all(
        max(s.times.values()) > copied_at for s in senders.values()), 30)
    world.mailhaul("cutover", world.address("alice"))
    world.wait_account("alice", route="local")
    flipped_at = time.monotonic()
    wait_until(lambda: all(
        sum(t > flipped_at for t in list(s.times.values())) > 5
        for s in senders.values()), 30)
    for sender in senders.values():
        sender.stop()
        assert sender.refused == {} and sender.unsure == set(), sender.name
    check_hers(world, reader, senders, flipped_at)
    check_his(world, senders["reply"])


def check_hers(world, reader, senders, flipped_at):
    sent = {serial: when for name in ("outside", "colleague", "alias")
            for serial, when in senders[name].times.items()}
    wait_until(lambda: reader.first_seen.keys() >= sent.keys(), 60, 0.2,
               lambda: sorted(sent.keys() - reader.first_seen.keys()))
    reader.stop()
    assert reader.lost == []
    late = {s: reader.first_seen[s] - when for s, when in sent.items()
            if reader.first_seen[s] - when > FOUND_WITHIN_S}
    assert late == {}
    local = found_on(world, "local", "alice")
    assert {s: len(places) for s, places in local.items()} == dict.fromkeys(
        sent, 1)
    assert {places[0][0] for places in local.values()} == {"INBOX"}
    # what mailhaul took after the flip, legacy has never seen
    legacy = found_on(world, "legacy", "alice")
    assert not {s for s, when in senders["outside"].times.items()
                if when > flipped_at} & legacy.keys()


def check_his(world, reply):
    """bob lives on legacy, and nowhere else."""
    wait_until(lambda: found_on(world, "legacy", "bob").keys() >=
               set(reply.accepted), 30, 0.2)
    assert {s: len(places) for s, places in
            found_on(world, "legacy", "bob").items()} == dict.fromkeys(
                reply.accepted, 1)
    assert set(found_on(world, "mailhaul", "bob")) == set(reply.accepted)


def test_mail_that_is_moved_or_deleted_after_the_flip_stays_so(make_world):
    """The trail brings every message once, whatever became of it here."""
    world = make_world(**WORLD)
    world.fill("alice", messages=30, folders=4, total=100_000)
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    world.mailhaul("cutover", world.address("alice"))
    world.wait_account("alice", route="local")
    sent = [world.send("alice", "legacy", serial=f"late-{n}")
            for n in range(3)]
    wait_until(lambda: found_on(world, "local", "alice").keys() >= set(sent))
    imap = world.imap("alice")
    imap.select("INBOX")
    uids = {s: found_on(world, "local", "alice")[s][0][1] for s in sent}
    imap.uid("MOVE", str(uids[sent[0]]), "Trash")
    imap.uid("STORE", str(uids[sent[1]]), "+FLAGS.SILENT", "(\\Deleted)")
    imap.uid("EXPUNGE", str(uids[sent[1]]))
    imap.logout()
    # a pass that certainly came after that: it brings this, in a folder, too
    legacy = world.imap("alice", "legacy")
    append(legacy, "Sent", "pass\r\nX-Serial: pass", "(\\Seen)")
    legacy.logout()
    sent.append(world.send("alice", "legacy", serial="last"))
    wait_until(lambda: found_on(world, "local", "alice").keys() >= {"last"})
    wait_until(lambda: sent_folder_has(world, "pass"), 60)
    now = {s: [folder for folder, _ in places] for s, places in
           found_on(world, "local", "alice").items() if s != "pass"}
    assert now == {sent[0]: ["Trash"], sent[2]: ["INBOX"], "last": ["INBOX"]}


def sent_folder_has(world, text):
    imap = world.imap("alice", "local")
    imap.select("Sent", readonly=True)
    found = imap.uid("SEARCH", "SUBJECT", text)[1][0]
    imap.logout()
    return bool(found)
