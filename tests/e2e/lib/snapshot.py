"""Everything an IMAP client can see of a mailbox, to be compared."""

import dataclasses
import hashlib
import imaplib
import re

CHUNK = 200


def quote(name):
    return '"%s"' % name.replace("\\", "\\\\").replace('"', '\\"')


@dataclasses.dataclass(frozen=True)
class Message:
    flags: frozenset
    internal_date: str
    size: int
    sha256: str


@dataclasses.dataclass
class Folder:
    uid_validity: int
    uid_next: int
    highest_modseq: int
    messages: dict  # uid -> Message


LIST = re.compile(rb'\((?P<attributes>[^)]*)\) (?P<separator>NIL|"\\?.") '
                  rb'(?P<name>.*)')


def _listed(imap, rows):
    """(attributes, name) of LIST or LSUB responses."""
    for row in rows:
        if row is None:
            continue
        if isinstance(row, tuple):  # the name came as a literal
            head = LIST.match(re.sub(rb"\{\d+\}$", b"", row[0]) + b'""')
            yield head["attributes"].decode(), row[1].decode()
        elif row:
            head = LIST.match(row)
            name = head["name"].decode()
            if name.startswith('"'):
                name = re.sub(r"\\(.)", r"\1", name[1:-1])
            yield head["attributes"].decode(), name


def folder_names(imap):
    """Selectable folders, as the client knows them."""
    return [name for attributes, name in _listed(imap, imap.list()[1])
            if "noselect" not in attributes.lower()
            and "nonexistent" not in attributes.lower()]


def subscriptions(imap):
    return {name for _, name in _listed(imap, imap.lsub()[1])}


def _status(imap, name):
    wanted = "UIDVALIDITY UIDNEXT"
    if "CONDSTORE" in imap.capabilities:
        wanted += " HIGHESTMODSEQ"
    rows = imap.status(quote(name), f"({wanted})")[1]
    text = b" ".join(part for row in rows
                     for part in (row if isinstance(row, tuple) else (row,)))
    return {k.decode(): int(v) for k, v in re.findall(
        rb"(UIDVALIDITY|UIDNEXT|HIGHESTMODSEQ) (\d+)", text)}


META = re.compile(rb'UID (\d+)|FLAGS \(([^)]*)\)|INTERNALDATE "([^"]*)"|'
                  rb"RFC822.SIZE (\d+)")


def _message(head, body):
    uid = flags = date = size = None
    for m in META.finditer(head):
        uid = int(m[1]) if m[1] else uid
        size = int(m[4]) if m[4] else size
        date = m[3].decode().strip() if m[3] else date
        flags = m[2] if m[2] is not None else flags
    kept = frozenset(flags.decode().split()) - {"\\Recent"}
    return uid, Message(kept, date, size, hashlib.sha256(body).hexdigest())


def read_messages(imap, name, bodies=True):
    """uid -> Message of one folder, read without changing it."""
    status, said = imap.select(quote(name), readonly=True)
    assert status == "OK", (name, said)
    uids = imap.uid("SEARCH", "ALL")[1][0].split()
    items = "(UID FLAGS INTERNALDATE RFC822.SIZE%s)" % (
        " BODY.PEEK[]" if bodies else "")
    found = {}
    for i in range(0, len(uids), CHUNK):
        part = b",".join(uids[i:i + CHUNK]).decode()
        for row in _rows(imap.uid("FETCH", part, items)[1]):
            uid, message = _message(*row)
            found[uid] = message
    return found


def _rows(answer):
    """(head, body) of each message: imaplib splits at literals, and what
    follows a literal belongs to the message before it."""
    head, body = None, b""
    for part in answer:
        if isinstance(part, tuple):
            if head is not None:
                yield head, body
            head, body = part[0], part[1]
        elif part and part.startswith(b" ") or part == b")":
            head += part
        elif part:
            if head is not None:
                yield head, body
            head, body = part, b""
    if head is not None:
        yield head, body


def snapshot(imap, bodies=True):
    """Folder name -> Folder of the whole mailbox."""
    folders = {}
    for name in folder_names(imap):
        status = _status(imap, name)
        folders[name] = Folder(status["UIDVALIDITY"], status["UIDNEXT"],
                               status.get("HIGHESTMODSEQ", 0),
                               read_messages(imap, name, bodies))
    if imap.state == "SELECTED":
        imap.unselect()
    return folders


def differences(before, after, limit=20):
    """What a client of `before` would notice in `after`: a list of texts.
    Higher UIDNEXT and HIGHESTMODSEQ are allowed, lower ones are not."""
    found = [f"{name}: missing" for name in before.keys() - after.keys()]
    found += [f"{name}: new" for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if old.uid_validity != new.uid_validity:
            found.append(f"{name}: UIDVALIDITY {old.uid_validity} -> "
                         f"{new.uid_validity}")
        for what in ("uid_next", "highest_modseq"):
            if getattr(new, what) < getattr(old, what):
                found.append(f"{name}: {what} fell from {getattr(old, what)} "
                             f"to {getattr(new, what)}")
        for uid in sorted(old.messages.keys() | new.messages.keys()):
            a, b = old.messages.get(uid), new.messages.get(uid)
            if a != b:
                found.append(f"{name} uid {uid}: {a} -> {b}")
    return found[:limit]


def find_serials(imap, header="X-Serial"):
    """{serial: [(folder, uid), ...]} of messages that a Sender sent."""
    found = {}
    for name in folder_names(imap):
        imap.select(quote(name), readonly=True)
        uids = imap.uid("SEARCH", "HEADER", header, '""')[1][0].split()
        if not uids:
            continue
        items = f"(UID BODY.PEEK[HEADER.FIELDS ({header})])"
        answer = imap.uid("FETCH", b",".join(uids).decode(), items)[1]
        for head, body in _rows(answer):
            serial = body.decode().partition(":")[2].strip()
            uid = int(re.search(rb"UID (\d+)", head)[1])
            if serial:
                found.setdefault(serial, []).append((name, uid))
    return found


def highest_modseq(imap, name):
    return _status(imap, name)["HIGHESTMODSEQ"]


imaplib._MAXLINE = 50_000_000  # a SEARCH answer of a large folder
