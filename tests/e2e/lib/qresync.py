"""A client with a cache that synchronises by QRESYNC (RFC 7162)."""

import re

from .snapshot import quote


def expand(uid_set):
    """The UIDs of "1:3,7"."""
    uids = set()
    for part in uid_set.split(","):
        low, _, high = part.partition(":")
        uids.update(range(int(low), int(high or low) + 1))
    return uids


class QresyncClient:
    """What it remembers of one folder survives its connections."""

    def __init__(self, folder="INBOX"):
        self.folder = folder
        self.uid_validity = self.modseq = 0
        self.flags = {}  # uid -> frozenset
        self.lost_cache = 0  # times that UIDVALIDITY had changed

    def sync(self, wire):
        """Bring the cache up to date over a logged-in ImapWire; what happened:
        {"vanished": uids, "changed": uids, "new": uids}."""
        wire.ok("ENABLE QRESYNC")
        select = f"SELECT {quote(self.folder)}"
        if self.uid_validity:
            select += f" (QRESYNC ({self.uid_validity} {self.modseq}))"
        responses = wire.ok(select)
        validity, modseq, exists = self._numbers(responses)
        if self.uid_validity and validity != self.uid_validity:
            self.lost_cache += 1
            self.flags.clear()
        self.uid_validity = validity
        done = {"vanished": set(), "changed": set(), "new": set()}
        self._apply(responses, done)
        if exists:
            first = max(self.flags, default=0) + 1
            self._apply(wire.ok(f"UID FETCH {first}:* (UID FLAGS MODSEQ)"),
                        done)
        self.modseq = modseq
        return done

    @staticmethod
    def _numbers(responses):
        text = b"\n".join(responses)
        validity = int(re.search(rb"UIDVALIDITY (\d+)", text)[1])
        modseq = re.search(rb"HIGHESTMODSEQ (\d+)", text)
        exists = int(re.search(rb"\* (\d+) EXISTS", text)[1])
        return validity, int(modseq[1]) if modseq else 0, exists

    def _apply(self, responses, done):
        for response in responses:
            if m := re.match(rb"\* VANISHED (?:\(EARLIER\) )?([\d:,]+)",
                             response):
                gone = expand(m[1].decode()) & self.flags.keys()
                done["vanished"] |= gone
                for uid in gone:
                    del self.flags[uid]
            elif b" FETCH (" in response:
                uid = int(re.search(rb"UID (\d+)", response)[1])
                raw = re.search(rb"FLAGS \(([^)]*)\)", response)[1].decode()
                flags = frozenset(raw.split()) - {"\\Recent"}
                if uid not in self.flags:
                    done["new"].add(uid)
                elif self.flags[uid] != flags:
                    done["changed"].add(uid)
                self.flags[uid] = flags

    def truth(self, wire):
        """uid -> flags as the server says without any cache."""
        wire.ok(f"EXAMINE {quote(self.folder)}")
        found = {}
        for response in wire.ok("UID FETCH 1:* (UID FLAGS)"):
            if b" FETCH (" in response:
                uid = int(re.search(rb"UID (\d+)", response)[1])
                raw = re.search(rb"FLAGS \(([^)]*)\)", response)[1].decode()
                found[uid] = frozenset(raw.split()) - {"\\Recent"}
        return found
