"""What other clients do to a mailbox: append, flag, expunge (imaplib)."""

import re

from .snapshot import quote


def append(imap, folder, text, flags="", date=None):
    raw = f"Subject: {text}\r\n\r\n{text}\r\n".encode()
    status, said = imap.append(quote(folder), flags, date, raw)
    assert status == "OK", said
    return int(re.search(rb"APPENDUID \d+ (\d+)", said[0])[1])


def uids_of(imap, folder, criteria="ALL"):
    imap.select(quote(folder), readonly=True)
    return [int(u) for u in imap.uid("SEARCH", criteria)[1][0].split()]


def expunge(imap, folder, uids):
    imap.select(quote(folder))
    numbers = ",".join(map(str, uids))
    imap.uid("STORE", numbers, "+FLAGS.SILENT", "(\\Deleted)")
    imap.uid("EXPUNGE", numbers)


def store(imap, folder, uids, what, flags):
    imap.select(quote(folder))
    status, said = imap.uid("STORE", ",".join(map(str, uids)), what, flags)
    assert status == "OK", said
