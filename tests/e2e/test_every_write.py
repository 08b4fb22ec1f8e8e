"""A worker killed at any of its writes: rerun, it leaves the store that it
leaves undisturbed. MAILHAUL_EVERY=1 in the environment tries every write, and
each write half done; otherwise some, and others in each job."""

import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
from pathlib import Path

import pytest

from devservers import node
from lib.mailbox import append, expunge, store, uids_of
from lib.snapshot import find_serials

SHIM = Path(__file__).resolve().parents[1] / "fakes" / "kill_at_write.c"
EVERY = int(os.environ.get("MAILHAUL_EVERY", "0"))
LOG = "dovecot.index.log"  # its header carries HIGHESTMODSEQ
KILLS = 24  # of each job, where not all are tried


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    built = tmp_path_factory.mktemp("shim") / "kill_at_write.so"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-o",
                    built, SHIM, "-ldl"], check=True)
    return built


class Mailbox:
    """A store and its ledger in a folder, and the worker that fills it."""

    def __init__(self, folder, servers, shim):
        self.folder, self.servers, self.shim = folder, servers, shim
        self.maildir, self.ledger = folder / "Maildir", folder / "ledger"

    def fork(self, name):
        """A copy of it as it is now."""
        other = Mailbox(self.folder.parent / name, self.servers, self.shim)
        shutil.rmtree(other.folder, ignore_errors=True)
        if self.folder.exists():
            shutil.copytree(self.folder, other.folder, symlinks=True)
            other.adopt_place()
        return other

    def adopt_place(self):
        """The ledger believes only the store at its own path, of its own
        inodes: tell it that the copy is that store."""
        path = self.ledger / "ledger.db"
        if not path.exists() or path.stat().st_size == 0:
            return
        db = sqlite3.connect(path)
        try:
            db.execute("UPDATE value SET value = ? WHERE key = 'maildir'",
                       (str(self.maildir),))
            for number, name in db.execute(
                    "SELECT id, directory FROM folder").fetchall():
                cur = self.maildir / name / "cur"
                if cur.is_dir():
                    db.execute("UPDATE folder SET cur_inode = ? WHERE id = ? "
                               "AND cur_inode != 0",
                               (cur.stat().st_ino, number))
            db.commit()
        except sqlite3.OperationalError as missing:
            assert "no such table" in str(missing), missing
        finally:
            db.close()

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, kind, epoch=1, **environment):
        """Of one job: the exit status, or the negative signal; its report."""
        self.folder.mkdir(exist_ok=True)
        ports = self.servers.legacy
        (self.folder / "job.json").write_text(json.dumps({
            "id": 1, "account_id": 7, "epoch": epoch, "kind": kind,
            "address": "alice@example.test", "password": "pw-alice",
            "legacy_user": "alice@example.test",
            "legacy_imap": f"imap://localhost:{ports['imap']}",
            "legacy_pop3": f"pop3://localhost:{ports['pop3']}",
            "local_imap": f"imap://127.0.0.1:{self.servers.local['imap']}",
            "maildir": str(self.maildir), "ledger_dir": str(self.ledger),
            "ca_file": str(self.servers.ca_file), "tls_minimum": "1.2"}))
        done = subprocess.run(
            [str(node.binaries() / "mailhaul-worker"), "--job",
             str(self.folder / "job.json")], capture_output=True, text=True,
            timeout=60, env={**os.environ, "LD_PRELOAD": str(self.shim),
                             **environment})
        said = (done.stdout + done.stderr).strip()
        return done.returncode, said

    def count_writes(self, kind, epoch=1):
        counted = self.folder.parent / "count"
        status, said = self.run(kind, epoch, COUNT_TO=str(counted))
        assert status == 0, said
        return int(counted.read_text())

    def files(self):
        """Everything in the store, messages with their times; without what
        holds the time or the number of its writing."""
        found = {}
        for path in (self.folder / "Maildir").rglob("*"):
            if path.name in ("mailhaul-witness", LOG) or not path.is_file():
                continue
            name = str(path.relative_to(self.folder))
            time = path.stat().st_mtime if path.parent.name == "cur" else 0
            found[name] = (time, path.read_bytes())
        return found


    def modseqs(self):
        """{directory: the number that Dovecot will count on from}"""
        return {str(log.parent.relative_to(self.folder)):
                struct.unpack("<Q", log.read_bytes()[24:32])[0]
                for log in (self.folder / "Maildir").rglob(LOG)}


def change(servers):
    """What a delta has to find: new, flagged, gone, in two folders."""
    imap = servers.imap("alice", "legacy")
    for folder in ("INBOX", "Sent"):
        uids = uids_of(imap, folder)
        store(imap, folder, uids[:2], "+FLAGS", "(\\Flagged Neu)")
        expunge(imap, folder, uids[2:4])
        for n in range(3):
            append(imap, folder, f"later {n}", "(\\Seen)")
    imap.create("Later")
    append(imap, "Later", "in a new folder")
    imap.delete("Trash")
    imap.logout()


def chosen(total, part):
    """The writes to die at: all, or some spread over the job."""
    if EVERY:
        return range(1, total + 1)
    step = max(total // KILLS, 1)
    return range(1 + part % step, total + 1, step)


def tell(undisturbed, wild):
    names = sorted(undisturbed.keys() ^ wild.keys())
    names += sorted(n for n in undisturbed.keys() & wild.keys()
                    if undisturbed[n] != wild[n])
    return [(n, undisturbed.get(n), wild.get(n)) for n in names[:4]]


def die_and_recover(before, kind, number, half):
    """One worker that dies at that write, and what is run after it."""
    wild = before.fork("wild")
    environment = {"KILL_AT": str(number), **({"KILL_HALF": "1"} if half
                                              else {})}
    epoch = 2 if kind == "final" else 1
    status, said = wild.run(kind, epoch, **environment)
    assert status == -signal.SIGKILL, (number, said)
    after = [(kind, epoch)] if kind != "final" \
        else [("delta", 3), ("final", 4)]
    for job in after:
        status, said = wild.run(*job)
        assert status == 0, (kind, number, job, said)
    return wild


def try_all(before, kind, calm, total, part):
    undisturbed, folders = calm.files(), calm.modseqs().keys()
    for number in chosen(total, part):
        for half in ((False, True) if EVERY else (number % 2 == 0,)):
            wild = die_and_recover(before, kind, number, half)
            assert wild.files() == undisturbed, (
                kind, number, half, tell(undisturbed, wild.files()))
            assert wild.modseqs().keys() == folders
            assert min(wild.modseqs().values()) > 1_000_000
            wild.remove()


def test_a_worker_killed_at_a_write_leaves_nothing_behind(servers, shim,
                                                          tmp_path):
    servers.fill("alice", messages=40, folders=3, total=300_000)
    nothing = Mailbox(tmp_path / "nothing", servers, shim)
    calm = nothing.fork("copied")
    total = calm.count_writes("initial")
    print(f"initial: {total} writes")
    try_all(nothing, "initial", calm, total, 0)
    change(servers)
    copied, calm = calm, calm.fork("followed")
    total = calm.count_writes("delta")
    print(f"delta: {total} writes")
    try_all(copied, "delta", calm, total, 1)
    change_little(servers)
    followed, calm = calm, calm.fork("flipped")
    total = calm.count_writes("final", 2)
    print(f"final: {total} writes")
    try_all(followed, "final", calm, total, 2)


def change_little(servers):
    imap = servers.imap("alice", "legacy")
    append(imap, "INBOX", "last", "")
    store(imap, "Sent", uids_of(imap, "Sent")[:1], "+FLAGS", "(\\Answered)")
    imap.logout()


def serials_on_local(world):
    imap = world.imap("alice", "local")
    found = find_serials(imap)
    imap.logout()
    return found


def append_late(world, serial):
    """Mail that legacy takes after the flip, in two of its folders."""
    imap = world.imap("alice", "legacy")
    for folder in ("INBOX", "Sent"):
        append(imap, folder, f"late\r\nX-Serial: {serial}-{folder}")
    imap.logout()


def test_a_trail_killed_at_a_write_brings_each_message_once(
        make_world, shim, tmp_path):
    world = make_world(cutover="manual")
    world.fill("alice", messages=20, folders=2, total=50_000)
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    world.mailhaul("cutover", "alice@example.test")
    epoch = world.wait_account("alice", route="local")["epoch"]
    world.stop("mailhauld")
    mailbox = Mailbox(tmp_path / "job", world, shim)
    mailbox.maildir, = world.settings.store.glob("*/alice/Maildir")
    mailbox.ledger = next((world.folder / "state" / "ledger").rglob(
        "ledger.db")).parent
    append_late(world, "first")
    total = mailbox.count_writes("trail", epoch)
    print(f"trail: {total} writes")
    serials = ["first"]
    for number in chosen(total, 0):
        serials.append(f"at-{number}")
        append_late(world, serials[-1])
        status, said = mailbox.run("trail", epoch, KILL_AT=str(number))
        assert status in (0, -signal.SIGKILL), (number, said)
        for _ in range(2):
            status, said = mailbox.run("trail", epoch)
            assert status == 0, (number, said)
    assert {s: [folder for folder, _ in places] for s, places in
            serials_on_local(world).items()} == {
                f"{s}-{folder}": [folder] for s in serials
                for folder in ("INBOX", "Sent")}
