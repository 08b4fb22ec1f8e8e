"""Mailboxes for any legacy server: what is in them, and what their user then
does to them. All over IMAP, as a client would."""

import os
import pwd
import re
import time

from devservers.filling import modified_utf7
from devservers.letters import Writer

from .snapshot import quote

# As tuples, top first; a server may refuse some.
FOLDERS = [
    ("Sent",), ("Archive",), ("Archive", "2019"), ("Archive", "2019", "Kunden"),
    ("Leer",), ("Leer", "auch leer"), ("Gesendete Objekte",), ("Entwürfe",),
    ("Müll", "Äußerst wichtig"), ("R&D",), ("日本語",), ("100%",), ("star*",),
    ('say "hello"',), ("back\\slash",), ("v1.2",), ("a/b",), ("~home",),
    ("[x] (y)",), ("UPPER",), ("upper",), ("-dash",), ("#hash",), ("{5}",),
    ("Rename me",), ("Rename me", "Kind"), ("Delete me",), ("x", "INBOX"),
]
FLAGS = [(), ("\\Seen",), ("\\Seen", "\\Answered"), ("\\Flagged",),
         ("\\Draft",), ("\\Deleted",), ("\\Seen", "\\Flagged", "\\Answered",
                                        "\\Deleted", "\\Draft")]
KEYWORDS = [(), (), ("$Forwarded",), ("NonJunk", "$label1"), ("Wichtig",)]
DATES = [
    "17-Jul-1996 02:44:25 -0730", " 2-Jan-1970 00:00:00 +0000",
    "31-Dec-1999 23:59:59 +1345", "29-Feb-2000 12:00:00 -0030",
    "18-Jan-2038 03:14:07 +0000", " 1-Apr-2040 10:11:12 +0200",
    "28-Mar-2021 02:30:00 +0100", " 9-Nov-2024 08:07:06 +0000",
]
SIZES = (400, 3000, 40_000, 200_000)
LARGEST = 5_000_000


class Refused(Exception):
    pass


class Box:
    """One mailbox of a Source, as its client: prefix and separator are what
    the server says of its personal namespace."""

    def __init__(self, source, address):
        self.source, self.address = source, address
        self.wire = source.wire(address)
        self.has_keywords = source.kind.has_keywords
        self.prefix, self.separator = self._namespace()

    def close(self):
        self.wire.ok("LOGOUT")
        self.wire.close()

    def _namespace(self):
        answer, rows = self.wire.command("NAMESPACE")
        text = b"".join(rows) if answer.startswith(b"OK") else b""
        found = re.search(rb'NAMESPACE \(\("([^"]*)" "(.)"', text)
        if not found:
            return "INBOX.", "."
        return found[1].decode(), found[2].decode()

    def name(self, parts):
        if parts == ("INBOX",):
            return "INBOX"
        return self.prefix + modified_utf7(self.separator.join(parts))

    def may(self, text):
        """True if the server does it, False if it says NO or BAD."""
        return self.wire.command(text)[0].startswith(b"OK")

    def do(self, text):
        answer, rows = self.wire.command(text)
        if not answer.startswith(b"OK"):
            raise Refused(text, answer)
        return rows

    def can_be(self, parts):
        """Whether there is such a name on this server at all."""
        return not any(self.separator in part for part in parts)

    def create(self, parts):
        """False where the server refuses."""
        return self.may(f"CREATE {quote(self.name(parts))}")

    def append(self, parts, raw, flags=(), date=None):
        """False if the server does not take it, or ends the session."""
        try:
            return self._append(parts, raw, flags, date)
        except (EOFError, ConnectionError):
            self.wire = self.source.wire(self.address)
            return False

    def _append(self, parts, raw, flags, date):
        tag = self.wire.tag()
        at = f' "{date}"' if date else ""
        self.wire.line(f"{tag} APPEND {quote(self.name(parts))} "
                       f"({' '.join(flags)}){at} {{{len(raw)}}}")
        line = self.wire.read_response()
        while not line.startswith((b"+", tag.encode())):
            line = self.wire.read_response()
        if line.startswith(b"+"):
            self.wire.send(raw + b"\r\n")
            line = tag.encode() + b" " + self.wire.finish(tag)[0]
        return line.split(b" ", 2)[1] == b"OK"

    def select(self, parts):
        self.do(f"SELECT {quote(self.name(parts))}")
        rows = self.do("UID SEARCH ALL")
        found = [r for r in rows if r.upper().startswith(b"* SEARCH")]
        return [int(u) for row in found for u in row.split()[2:]]

    def store(self, uids, what, flags):
        if uids:
            self.do(f"UID STORE {','.join(map(str, uids))} {what} "
                    f"({' '.join(flags)})")

    def expunge(self, uids):
        """Of the selected folder, only these: no other is \\Deleted then."""
        deleted = [int(u) for row in self.do("UID SEARCH DELETED")
                   if row.upper().startswith(b"* SEARCH")
                   for u in row.split()[2:]]
        self.store(deleted, "-FLAGS", ["\\Deleted"])
        self.store(uids, "+FLAGS", ["\\Deleted"])
        self.do("EXPUNGE")
        self.store(sorted(set(deleted) - set(uids)), "+FLAGS", ["\\Deleted"])

    def subscribe(self, parts, on=True):
        return self.may(f"{'' if on else 'UN'}SUBSCRIBE "
                        f"{quote(self.name(parts))}")

    def flags(self, n):
        words = FLAGS[n % len(FLAGS)]
        if self.has_keywords:
            words += KEYWORDS[n % len(KEYWORDS)]
        return words


def crlf(raw):
    return re.sub(rb"(?<!\r)\n", b"\r\n", raw)


def letters():
    """Messages as they come over the wire; the odd ones also with bare LF."""
    writer = Writer(7)
    for n, raw in enumerate(writer.oddities(800_000_000)):
        yield crlf(raw)
        if n % 5 == 4:
            yield raw
    for size in SIZES * 3:
        yield crlf(writer.letter(900_000_000, size))


def deliver(source, address, raw):
    """As the server's own delivery agent would, where that is a file: lines
    end in LF, the message is new and \\Recent."""
    if source.name != "courier":
        return False
    home = f"mail/{address}/Maildir"
    path = source.folder / home / "new" / f"{time.time_ns()}.M1P1.mx"
    path.write_bytes(raw)
    owner = pwd.getpwnam(source.world.settings.owner)
    os.chown(path, owner.pw_uid, owner.pw_gid)
    return True


def fill(source, address):
    """{"folders": refused ones, "messages": how many were refused}"""
    box = Box(source, address)
    made = [("INBOX",)]
    refused = set()
    for n, parts in enumerate(FOLDERS):
        if not box.can_be(parts):
            continue
        if not box.create(parts):
            refused.add(parts)
            continue
        made.append(parts)
        if n % 3 != 2:
            box.subscribe(parts)
    box.subscribe(("INBOX",))
    full = [p for p in made if p[0] != "Leer"]
    lost = 0
    for n, raw in enumerate(letters()):
        parts = full[0] if n % 3 == 0 else full[n % len(full)]
        lost += not box.append(parts, raw, box.flags(n), DATES[n % len(DATES)])
    for parts in full:
        for n in range(3):
            box.append(parts, b"Subject: plain %d\r\n\r\nplain\r\n" % n,
                       box.flags(n))
    large = Writer(8).letter(1_000_000_000, LARGEST)
    if not deliver(source, address, large):  # APPEND takes imap4d 20 seconds
        assert box.append(("Archive",), crlf(large), ("\\Seen",))
    for parts in (("INBOX",), ("Sent",)):  # gaps between UIDs
        uids = box.select(parts)
        box.expunge(uids[1:3] + uids[-1:])
    box.do(f"SELECT {quote(box.name(('Leer',)))}")
    for n in range(3):  # nobody has opened the folder since
        box.append(("INBOX",), b"Subject: recent %d\r\n\r\nnew\r\n" % n,
                   box.flags(n))
        deliver(source, address, b"Subject: delivered %d\n\xfc\n\nnew\n" % n)
    box.close()
    return {"folders": refused, "messages": lost}


def mbox_put(source, address, parts, letters):
    """As a delivery agent does, into an mbox of imap4d."""
    home = source.folder / "mail" / address
    path = home / "INBOX" if parts == ("INBOX",) else home.joinpath(
        "folders", *map(modified_utf7, parts))
    owner = pwd.getpwnam(source.world.settings.owner)
    with open(path, "ab") as f:
        for raw in letters:
            raw = re.sub(rb"(?m)^(>*From )", rb">\1", raw)
            f.write(b"From someone@sender.test Mon Feb  5 10:11:12 2024\n" +
                    raw.rstrip(b"\n") + b"\n\n")
    os.chown(path, owner.pw_uid, owner.pw_gid)


MBOXES = [("INBOX",), ("Sent",), ("Gesendete Objekte",), ("Entwürfe",),
          ('say "hello"',), ("R&D",), ("[x] (y)",), ("100%",), ("star*",)]


def fill_mboxes(source, address):
    """Once opened and closed by a client they have their UIDs for good."""
    box = Box(source, address)
    writer = Writer(9)
    for n, parts in enumerate(MBOXES):
        if n > 0:
            assert box.create(parts)
        mbox_put(source, address, parts, [
            writer.letter(900_000_000 + i, size)
            for i, size in enumerate((400, 3000, 40_000, 800 + n))])
        uids = box.select(parts)
        box.store(uids[:1], "+FLAGS", ["\\Seen"])
        box.store(uids[1:3], "+FLAGS", ["\\Answered", "\\Flagged"])
        box.expunge(uids[3:])
        box.subscribe(parts)
    box.close()


def change_mboxes(source, address):
    """What leaves the bytes of other messages alone: imap4d keeps flags and
    what is old in header lines that it shows, and writes them at SELECT."""
    box = Box(source, address)
    box.do(f"DELETE {quote(box.name(('star*',)))}")
    box.do(f"RENAME {quote(box.name(('100%',)))} {quote(box.name(('neu',)))}")
    assert box.create(("Later",))
    mbox_put(source, address, ("Later",), [b"Subject: later\n\nlater\n"] * 3)
    box.expunge(box.select(("Later",))[1:2])
    box.subscribe(("Later",))
    box.subscribe(("Sent",), on=False)
    box.close()


def fill_little(source, address):
    """A few folders and messages."""
    box = Box(source, address)
    for parts in (("Sent",), ("Archive", "2019"), ("Entwürfe",)):
        assert box.create(parts)
        box.subscribe(parts)
        for n in range(4):
            box.append(parts, b"Subject: %d\r\n\r\n%d\r\n" % (n, n),
                       box.flags(n), DATES[n])
    for n, raw in zip(range(12), letters()):
        box.append(("INBOX",), raw, box.flags(n), DATES[n % len(DATES)])
    box.expunge(box.select(("INBOX",))[2:4])
    box.close()


def change(source, address):
    """What a delta has to find."""
    box = Box(source, address)
    uids = box.select(("INBOX",))
    box.store(uids[:2], "+FLAGS", ["\\Flagged"])
    box.store(uids[2:4], "FLAGS", [])
    box.store(uids[4:6], "-FLAGS", ["\\Seen"])
    if box.has_keywords:
        box.store(uids[3:5], "+FLAGS", ["Neu", "$label1"])
    moved = uids[6:9]
    box.do(f"UID COPY {','.join(map(str, moved))} {quote(box.name(('Sent',)))}")
    box.expunge(moved + uids[10:12])
    uids = box.select(("Sent",))
    box.store(uids[:1], "+FLAGS", ["\\Answered"])
    box.expunge(uids[2:3])
    box.select(("Leer",))
    renamed = box.may(f"RENAME {quote(box.name(('Rename me',)))} "
                      f"{quote(box.name(('Umbenannt & neu',)))}")
    box.do(f"DELETE {quote(box.name(('Delete me',)))}")
    box.create(("Neu",))
    box.subscribe(("Neu",))
    box.subscribe(("Sent",), on=False)
    for n, parts in enumerate([("INBOX",), ("Sent",), ("Neu",), ("Leer",)]):
        assert box.append(parts, b"Subject: later\r\n\r\n%d\r\n" % n,
                          box.flags(n), DATES[7])
    deliver(source, address, b"Subject: delivered later\n\nnew\n")
    box.close()
    return {"renamed": renamed}
