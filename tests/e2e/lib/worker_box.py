"""A store and its ledger in a folder, and a worker that is disturbed while it
fills them; what legacy changes between its jobs."""

import json
import os
import shutil
import sqlite3
import struct
import subprocess

from devservers import node

from .mailbox import append, expunge, store, uids_of
from .snapshot import find_serials

LOG = "dovecot.index.log"  # its header carries HIGHESTMODSEQ


class Mailbox:
    """A store and its ledger in a folder, and the worker that fills it."""

    def __init__(self, folder, servers, shim):
        self.folder, self.servers, self.shim = folder, servers, shim
        self.maildir, self.ledger = folder / "Maildir", folder / "ledger"
        self.options = {}  # of its jobs

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
            "verify": kind in ("delta", "final"),
            "maildir": str(self.maildir), "ledger_dir": str(self.ledger),
            "ca_file": str(self.servers.ca_file), "tls_minimum": "1.2",
            **self.options}))
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


def tell(undisturbed, wild):
    names = sorted(undisturbed.keys() ^ wild.keys())
    names += sorted(n for n in undisturbed.keys() & wild.keys()
                    if undisturbed[n] != wild[n])
    return [(n, undisturbed.get(n), wild.get(n)) for n in names[:4]]
