"""Fills a mailbox of the legacy Dovecot by writing its Maildir: thousands of
messages a second; then uses it a little, so that UIDs have gaps."""

import base64
import imaplib
import os
import poplib
import pwd
import random
import time
from pathlib import Path

from .letters import LARGEST, Writer

# Names as a user sees them, one tuple a folder, top first.
FOLDERS = [
    ("Sent",), ("Drafts",), ("Trash",), ("Archive", "2019", "Kunden"),
    ("Entwürfe",), ("Gesendete Objekte",), ("R&D",), ("a.b.example",),
    ("日本語",), ("Work & Play", "Ideen (neu)"), ("Empty",), ("work",), ("Work",),
    ("Archive", "2020"), ("Very", "Deep", "Nest", "Of", "Folders"),
    ('say "hello"',), ("100%",), ("~home",), ("[Gmail]", "All Mail"),
    ("Müll", "Äußerst wichtig"), ("-dash",), ("x", "INBOX"), ("new",),
    ("Łódź & Köln",), ("Projekte", "v1.2", "Größe"),
]
EMPTY = ("Empty",)
KEYWORDS = ["$Forwarded", "NonJunk", "$MDNSent", "$label1", "Wichtig"]
FLAGS = ["S", "S", "S", "", "F", "R", "RS", "D", "T", "FS", "DFRST", "S"]
FIRST_DATE, LAST_DATE = 770000000, 1750000000  # 1994 to 2025


def modified_utf7(name):
    """RFC 3501, 5.1.3."""
    out, run = [], ""
    for c in name + "\0":
        if " " <= c <= "~" or c == "\0":
            if run:
                coded = base64.b64encode(run.encode("utf-16-be")).decode()
                out.append("&" + coded.rstrip("=").replace("/", ",") + "-")
                run = ""
            out.append({"&": "&-", "\0": ""}.get(c, c))
        else:
            run += c
    return "".join(out)


class Filling:
    """One mailbox: user is an address of `world`'s legacy."""

    def __init__(self, world, user, seed=1, corpus=None):
        self.world, self.user = world, user
        self.settings = world.settings
        self.random = random.Random(seed)
        self.writer = Writer(seed)
        self.corpus = self._real_mail(corpus)
        self.home = world.legacy_dovecot.folder / "mail" / user / "Maildir"
        self.owner = pwd.getpwnam(self.settings.owner)
        self.serial = 0
        self.messages = self.bytes = 0

    @staticmethod
    def _real_mail(corpus):
        if not corpus:
            return []
        files = sorted(p for p in Path(corpus).rglob("*") if p.is_file()
                       and p.suffix not in (".md", ".tsv"))
        return [f for f in files if f.stat().st_size < LARGEST]

    def _imap_name(self, parts):
        if not self.settings.legacy_prefix:
            return modified_utf7("/".join(parts))
        return modified_utf7(
            "INBOX." + ".".join(p.replace(".", "/") for p in parts))

    def _directory(self, parts):
        """Where Dovecot's Maildir++ with listescape has it."""
        escaped = []
        for i, part in enumerate(parts):
            name = modified_utf7(part)
            if self.settings.legacy_prefix:
                name = name.replace(".", "/")
            name = name.replace("\\", "\\5c").replace(".", "\\2e")
            name = name.replace("/", "\\2f")
            if i == 0 and name.startswith("~"):
                name = "\\7e" + name[1:]
            escaped.append(name)
        return self.home / ("." + ".".join(escaped))

    def _login(self):
        password = self.settings.users()[self.user.partition("@")[0]]
        imap = imaplib.IMAP4("127.0.0.1", self.world.legacy["imap"])
        imap.login(self.user, password)
        return imap, password

    def _make_folders(self, imap, count):
        folders = FOLDERS[:count] + [
            ("Lists", f"list-{n:03}") for n in range(count - len(FOLDERS))]
        for i, parts in enumerate(folders):
            name = '"%s"' % self._imap_name(parts).replace(
                "\\", "\\\\").replace('"', '\\"')
            status, said = imap.create(name)
            if status != "OK" and b"exists" not in said[0]:
                raise OSError(f"CREATE {name}: {said}")
            if i % 5 != 4:
                imap.subscribe(name)
        return folders

    def _put(self, directory, raw, date, flags):
        """One file in cur, or in new where it has no flag."""
        self.serial += 1
        suffix = "".join(sorted(flags))
        name = f"{date}.M{self.serial:07}P1.legacy"
        if self.random.random() < 0.5:
            name += f",S={len(raw)}"
        place = "new" if not suffix and self.serial % 3 == 0 else "cur"
        path = directory / place / (
            name if place == "new" else f"{name}:2,{suffix}")
        with open(path, "xb") as f:
            f.write(raw)
        os.utime(path, (date, date))
        if os.getuid() == 0:
            os.chown(path, self.owner.pw_uid, self.owner.pw_gid)
        self.messages += 1
        self.bytes += len(raw)

    def _flags(self):
        r = self.random
        flags = set(r.choice(FLAGS))
        if r.random() < 0.15:
            flags.update(r.sample("abcde", r.choice((1, 1, 2, 3))))
        return flags

    def _sizes(self, count, total):
        """Many small and few large ones, about `total` together."""
        raw = [self.random.lognormvariate(0, 1.6) for _ in range(count)]
        factor = total / sum(raw)
        sizes = [min(max(int(x * factor), 300), LARGEST) for x in raw]
        if total > 3 * LARGEST:
            sizes[0] = LARGEST
        return sizes

    def _letter(self, date, size):
        if self.corpus and self.random.random() < 0.3:
            return self.random.choice(self.corpus).read_bytes()
        return self.writer.letter(date, size)

    def _write_keywords(self, directory):
        path = directory / "dovecot-keywords"
        path.write_text("".join(
            f"{i} {k}\n" for i, k in enumerate(KEYWORDS)))
        if os.getuid() == 0:
            os.chown(path, self.owner.pw_uid, self.owner.pw_gid)

    def fill(self, messages=3000, folders=25, total=None):
        imap, password = self._login()
        made = self._make_folders(imap, folders)
        imap.select("INBOX")
        imap.close()
        imap.logout()
        places = [self.home] * (len(made) // 2 + 2)
        places += [self._directory(p) for p in made if p != EMPTY]
        for place in set(places):
            self._write_keywords(place)
        step = (LAST_DATE - FIRST_DATE) // max(messages, 1)
        date = FIRST_DATE
        for raw in self.writer.oddities(date):
            if self.messages >= messages:
                break
            date += 86400 * 30
            self._put(self.random.choice(places), raw, date, self._flags())
        total = total if total is not None else messages * 15000
        left = messages - self.messages
        for n, size in enumerate(self._sizes(left, total) if left else []):
            date = FIRST_DATE + n * step + self.random.randrange(step + 1)
            self._put(self.random.choice(places), self._letter(date, size),
                      date, self._flags())
        self._use(made, password)

    def _use(self, folders, password):
        """Open every folder, expunge some; list UIDLs over POP3."""
        imap, _ = self._login()
        for parts in [None, *folders]:
            name = self._imap_name(parts) if parts else "INBOX"
            imap.select('"%s"' % name.replace("\\", "\\\\").replace(
                '"', '\\"'))
            uids = imap.uid("SEARCH", "ALL")[1][0].split()
            gone = [u for u in uids if self.random.random() < 0.04]
            gone += uids[-1:] if len(uids) > 5 else []
            if gone:
                numbers = b",".join(gone).decode()
                imap.uid("STORE", numbers, "+FLAGS.SILENT", "(\\Deleted)")
                imap.uid("EXPUNGE", numbers)
                self.messages -= len(set(gone))
        imap.logout()
        pop = poplib.POP3("127.0.0.1", self.world.legacy["pop3"])
        pop.user(self.user)
        pop.pass_(password)
        pop.uidl()
        pop.quit()


def fill(world, user, seed=1, corpus=None, **how):
    """A summary: messages, bytes, folders, seconds."""
    began = time.monotonic()
    filling = Filling(world, user, seed, corpus)
    filling.fill(**how)
    return {"user": user, "messages": filling.messages,
            "bytes": filling.bytes, "seconds": time.monotonic() - began}
