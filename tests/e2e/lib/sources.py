"""Legacy servers of several kinds, each with mailboxes that hold what it
allows, and a worker that copies one of them."""

import dataclasses
import hashlib
import imaplib
import json
import os
import poplib
import pwd
import re
import shutil
import sqlite3
import subprocess
import time
from email.utils import mktime_tz, parsedate_tz

from devservers import node, ports
from devservers.courier import Courier
from devservers.cyrus import Cyrus
from devservers.dovecot import Dovecot
from devservers.mailutils import Mailutils
from devservers.processes import Records

from .snapshot import META, _listed, _rows, quote
from .waiting import wait_until
from .wire import ImapWire

PORTS = ("imap", "imaps", "pop3", "pop3s", "lmtp")
OLD_DOVECOT = ("IMAP4rev1 SASL-IR LITERAL+ NAMESPACE UIDPLUS UNSELECT CHILDREN "
               "IDLE CONDSTORE ENABLE")


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a server of the kind is, and what it does not do."""

    make: type
    options: dict = dataclasses.field(default_factory=dict)
    refuses: frozenset = frozenset()  # folders, as tuples
    has_keywords: bool = True


MAILUTILS = Kind(Mailutils, has_keywords=False)
CYRUS_REFUSES = frozenset({("100%",), ('say "hello"',), ("back\\slash",),
                           ("{5}",)})
KINDS = {
    "courier": Kind(Courier, refuses=frozenset({("a/b",)})),
    "cyrus": Kind(Cyrus, refuses=CYRUS_REFUSES | {("a/b",)}),
    "cyrus-alt": Kind(Cyrus, {"has_prefix": False}, CYRUS_REFUSES),
    "mdbox": Kind(Dovecot, {"legacy_conf": "mail_location = mdbox:~/mdbox\n"}),
    "sdbox-old": Kind(Dovecot, {
        "legacy_conf": "mail_location = sdbox:~/sdbox\n"
                       f"imap_capability = {OLD_DOVECOT}\n"}),
    "mdbox-bare": Kind(Dovecot, {
        "legacy_prefix": True,
        "legacy_conf": "mail_location = mdbox:~/mdbox\n"
                       "imap_capability = IMAP4rev1\n"}),
}


class Source:
    """A running server of one kind. world: the local servers, whose users'
    names and certificates it has."""

    def __init__(self, name, world):
        self.name, self.world = name, world
        self.kind = KINDS.get(name, MAILUTILS)
        self.folder = world.folder / f"source-{name}"
        self.reservation = ports.pick(PORTS)
        self.ports = dict(self.reservation)
        self.passwords = {f"{user}@{world.settings.domain}": password
                          for user, password in world.settings.users().items()}
        self.domain = f"{name}.test"  # of a user who is going to move
        self.passwords[f"ann@{self.domain}"] = "pw-ann"
        self.records = Records(world.folder / f"pids-{name}")
        self.server = self._make()
        self.server.configure()
        self.records.add(name, self.server.start())
        wait_until(lambda: all(ports.answers(self.ports[p], 2)
                               for p in ("imap", "pop3")), 60,
                   what=f"{name} answers")

    def _make(self):
        if self.kind.make is Dovecot:
            settings = dataclasses.replace(self.world.settings,
                                           **self.kind.options)
            return Dovecot("legacy", self.folder, self.world.ca, self.ports,
                           settings)
        return self.kind.make(self.folder, self.ports, self.passwords,
                              **self.kind.options)

    def stop(self):
        self.records.stop(self.name)
        self.reservation.release()

    def serve(self):
        """Let mailhaul have the domain moved from here."""
        self.world.mailhaul(
            "domain", "add", self.domain, "--cutover", "manual",
            "--imap", f"imap://localhost:{self.ports['imap']}",
            "--pop3", f"pop3://localhost:{self.ports['pop3']}")
        self.world.mailhaul("domain", "enable", self.domain)

    def imap(self, address):
        imap = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=60)
        imap.login(address, self.passwords[address])
        imap._get_capabilities()
        return imap

    def wire(self, address):
        wire = ImapWire(self.ports["imap"], wait_s=60)
        wire.login(address, self.passwords[address])
        return wire

    def look(self, address):
        imap = self.imap(address)
        try:
            return look(imap)
        finally:
            imap.logout()

    def uidls(self, address):
        """In the server's order."""
        return uidls(self.ports["pop3"], address, self.passwords[address])


def uidls(port, address, password):
    pop = poplib.POP3("127.0.0.1", port, timeout=60)
    pop.user(address)
    pop.pass_(password)
    try:
        return [row.split()[1].decode() for row in pop.uidl()[1]]
    finally:
        pop.quit()


# ---- what a client sees

@dataclasses.dataclass
class Seen:
    """One folder, read with EXAMINE and PEEK."""

    uid_validity: int
    uid_next: int
    modseq: int
    recent: int
    unseen: int
    messages: dict  # uid -> (flags, Unix time, length, hash)


STATUS = re.compile(rb"(UIDVALIDITY|UIDNEXT|HIGHESTMODSEQ|RECENT|UNSEEN) (\d+)")


def _status(imap, name):
    words = "UIDVALIDITY UIDNEXT RECENT UNSEEN"
    if "CONDSTORE" in imap.capabilities:
        words += " HIGHESTMODSEQ"
    answer, rows = imap.status(quote(name), f"({words})")
    assert answer == "OK", (name, rows)
    text = b" ".join(part for row in rows
                     for part in (row if isinstance(row, tuple) else (row,)))
    return {k.decode(): int(v) for k, v in STATUS.findall(text)}


def _message(head, body):
    uid = flags = date = None
    for m in META.finditer(head):
        uid = int(m[1]) if m[1] else uid
        date = m[3].decode().strip() if m[3] else date
        flags = m[2] if m[2] is not None else flags
    at = mktime_tz(parsedate_tz(date.replace("-", " ", 2)))
    return uid, (frozenset(flags.decode().split()), at, len(body),
                 hashlib.sha256(body).hexdigest()[:16])


def _messages(imap, name):
    answer, said = imap.select(quote(name), readonly=True)
    assert answer == "OK", (name, said)
    uids = (imap.uid("SEARCH", "ALL")[1][0] or b"").split()
    found = {}
    for i in range(0, len(uids), 50):
        part = b",".join(uids[i:i + 50]).decode()
        answer, rows = imap.uid("FETCH", part,
                                "(UID FLAGS INTERNALDATE BODY.PEEK[])")
        assert answer == "OK", (name, rows)
        for row in _rows(rows):
            if b"INTERNALDATE" in row[0]:
                uid, message = _message(*row)
                found[uid] = message
    assert sorted(found) == sorted(map(int, uids)), name
    return found


def look(imap):
    """({name: Seen}, subscriptions without those that are only parents)"""
    seen = {}
    for attributes, name in _listed(imap, imap.list()[1]):
        if re.search("noselect|nonexistent", attributes.lower()):
            continue
        name = "INBOX" if name.upper() == "INBOX" else name
        s = _status(imap, name)
        seen[name] = Seen(s["UIDVALIDITY"], s["UIDNEXT"],
                          s.get("HIGHESTMODSEQ", 0), s["RECENT"], s["UNSEEN"],
                          _messages(imap, name))
    return seen, {name for attributes, name in _listed(imap, imap.lsub()[1])
                  if "noselect" not in attributes.lower()}


def unlike(legacy, local):
    """What a client of legacy would notice on local: a list of texts."""
    found = []
    if legacy[1] != local[1]:
        found.append(f"subscriptions {legacy[1] ^ local[1]}")
    legacy, local = legacy[0], local[0]
    found += [f"{name}: missing" for name in legacy.keys() - local.keys()]
    found += [f"{name}: new" for name in local.keys() - legacy.keys()]
    for name in legacy.keys() & local.keys():
        a, b = legacy[name], local[name]
        if a.uid_validity != b.uid_validity:
            found.append(f"{name}: {a.uid_validity} -> {b.uid_validity}")
        if b.uid_next < a.uid_next or b.modseq < a.modseq:
            found.append(f"{name}: fell: {a.uid_next} {a.modseq} -> "
                         f"{b.uid_next} {b.modseq}")
        for uid in sorted(a.messages.keys() | b.messages.keys()):
            x, y = a.messages.get(uid), b.messages.get(uid)
            if x and y:
                x, y = ((m[0] - {"\\Recent"}, *m[1:]) for m in (x, y))
            if x != y:
                found.append(f"{name} uid {uid}: {x} -> {y}")
    return found


# ---- the worker

class Copy:
    """A store, its ledger, and the worker that fills it from a source."""

    def __init__(self, source, address, folder):
        self.source, self.address, self.folder = source, address, folder
        self.maildir = folder / "Maildir"
        folder.mkdir()

    def job(self, kind):
        source, world = self.source, self.source.world
        return {
            "id": 1, "account_id": 7, "epoch": 1, "kind": kind,
            "address": self.address, "legacy_user": self.address,
            "password": source.passwords[self.address],
            "legacy_imap": f"imap://localhost:{source.ports['imap']}",
            "legacy_pop3": f"pop3://localhost:{source.ports['pop3']}",
            "local_imap": f"imap://127.0.0.1:{world.local['imap']}",
            "verify": kind in ("delta", "final"),
            "maildir": str(self.maildir),
            "ledger_dir": str(self.folder / "ledger"),
            "ca_file": str(world.ca_file), "tls_minimum": "1.2"}

    def run(self, kind, wait_s=120):
        """What the worker says of one job; it must succeed."""
        path = self.folder / "job.json"
        path.write_text(json.dumps(self.job(kind)))
        began = time.monotonic()
        done = subprocess.run(
            [str(node.binaries() / "mailhaul-worker"), "--job", str(path)],
            capture_output=True, text=True, timeout=wait_s)
        said = (done.stdout + done.stderr).strip()
        assert done.returncode == 0, f"{kind}: {said}"
        print(f"--- {kind}: {time.monotonic() - began:.1f} s\n{said}")
        return json.loads(done.stdout.splitlines()[-1])

    def files(self):
        """{name: time of its last change} of everything in the store."""
        return {str(path.relative_to(self.maildir)): path.stat().st_mtime_ns
                for path in self.maildir.rglob("*") if path.is_file()
                and path.name != "mailhaul-witness"}

    def serve(self, user, report):
        """A copy of the store, served by local as that user's."""
        world = self.source.world
        home = world.settings.store / user
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.maildir, home / "Maildir", symlinks=True)
        owner = pwd.getpwnam(world.settings.owner)
        for path in [home, *home.rglob("*")]:
            os.chown(path, owner.pw_uid, owner.pw_gid)
        with sqlite3.connect(world.settings.auth_db) as db:
            db.execute("DELETE FROM users WHERE username = ?", (user,))
            db.execute(
                "INSERT INTO users (username, password, home, mail, uid, gid, "
                "prefix, separator, active, epoch) "
                "VALUES (?, '{PLAIN}x', ?, ?, ?, ?, ?, ?, 1, 1)",
                (user, str(home), f"maildir:{home}/Maildir", owner.pw_uid,
                 owner.pw_gid, report["prefix"] or None,
                 report["separator"] or None))
        db.close()

    def look_on_local(self, user, report):
        """What a client sees of the store as it is now."""
        self.serve(user, report)
        imap = imaplib.IMAP4("127.0.0.1", self.source.world.local["imap"],
                             timeout=60)
        imap.login(user, "x")
        imap._get_capabilities()
        try:
            return look(imap)
        finally:
            imap.logout()
