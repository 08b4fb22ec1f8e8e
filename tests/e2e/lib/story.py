"""What the long story needs: many small mailboxes, clients that come and go,
and the audit read as a story."""

import collections
import imaplib
import os
import poplib
import pwd
import random
import threading
from concurrent.futures import ThreadPoolExecutor

from .snapshot import find_serials, snapshot

FLAGS = ("S", "", "FS", "RS", "Sa", "F", "DS")  # a is the keyword below
KEYWORD = "$label1"


def write_mailbox(world, user, number):
    """A few folders as files of legacy's Maildir; its serials."""
    owner = pwd.getpwnam(world.settings.owner)
    home = world.legacy_dovecot.folder / "mail" / world.address(user)
    made, serials = [home, home / "Maildir"], []
    for folder, count in (("", 2 + number % 4), (".Sent", 1 + number % 2),
                          (".Archive.2019", 1)):
        place = home / "Maildir" / folder
        made += [place, *(place / name for name in ("cur", "new", "tmp")),
                 place / "dovecot-keywords"]
        for n in range(count):
            flags = FLAGS[(number + n) % len(FLAGS)]
            serials.append(f"{user}{folder}-{n}")
            made.append(place / "cur" / f"{1500000000 + n}.M{n}.old:2,{flags}")
            made[-1].parent.mkdir(parents=True, exist_ok=True)
            made[-1].write_text(
                f"Subject: {serials[-1]}\r\nX-Serial: {serials[-1]}\r\n\r\n"
                f"{user} {number * n}\r\n")
            os.utime(made[-1], (1500000000 + n, 1500000000 + n))
    for path in made:
        if path.name == "dovecot-keywords":
            path.write_text(f"0 {KEYWORD}\n")
        elif ":2," not in path.name:
            path.mkdir(exist_ok=True)
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return serials


def each(function, users, threads=8):
    """{user: function(user)}, some at a time."""
    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(users, pool.map(function, users)))


def look_through(world, user, side, password=None):
    """(snapshot, {serial: places}) of a mailbox, by one session."""
    imap = world.imap(user, side, password=password)
    try:
        return snapshot(imap), find_serials(imap)
    finally:
        imap.logout()


class Clients:
    """Users who log in, look into the INBOX and log out, each by IMAP and by
    POP3 in turn. wrong: who was told that his password is wrong; fewer: who
    found fewer messages than before, but for those in late_mail; looks,
    unavailable: how often. Who is in `away` does not come by himself;
    `passwords` are those that were changed."""

    def __init__(self, world, users, late_mail, threads=3):
        self.world, self.late_mail = world, late_mail
        self.away, self.passwords = set(), {}
        self.locks = {user: threading.Lock() for user in users}
        self.seen, self.wrong, self.fewer = {}, [], []
        self.looks = self.unavailable = 0
        self.trouble = []
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True,
                                         args=(users[n::threads], n))
                        for n in range(threads)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"
        assert self.trouble == []

    def _run(self, users, seed):
        chance = random.Random(seed)
        try:
            while not self.ending.wait(0.1):
                user = chance.choice(users)
                if user not in self.away:
                    self.look(user, by_pop3=chance.random() < 0.3)
        except Exception as trouble:  # told by stop()
            self.trouble.append(trouble)

    def look(self, user, by_pop3=False):
        """How many messages the INBOX has; None if it could not be told."""
        with self.locks[user]:
            return self._look(user, by_pop3)

    def _look(self, user, by_pop3):
        try:
            found = (self._by_pop3 if by_pop3 else self._by_imap)(user)
        except (imaplib.IMAP4.error, poplib.error_proto) as refused:
            if "AUTHENTICATIONFAILED" in str(refused) or \
                    "[AUTH]" in str(refused):
                self.wrong.append(user)
            self.unavailable += 1
            return None
        except OSError:
            self.unavailable += 1
            return None
        self.looks += 1
        if found < self.seen.get(user, 0) and user not in self.late_mail:
            self.fewer.append((user, self.seen[user], found))
        self.seen[user] = found
        return found

    def _by_imap(self, user):
        imap = self.world.imap(user, password=self.passwords.get(user))
        status, said = imap.select("INBOX", readonly=True)
        if status != "OK":
            raise imap.error(said)
        imap.logout()
        return int(said[0])

    def _by_pop3(self, user):
        pop = self.world.pop3(user, password=self.passwords.get(user))
        found = pop.stat()[0]
        pop.quit()
        return found


# ---- the audit

def fields(text):
    """Of "route=held epoch=3"."""
    return dict(part.partition("=")[::2] for part in (text or "").split())


CHAINED = ("route", "copy", "epoch")


def broken_links(entries, accounts):
    """Where an account's entries do not follow one from the other, nor lead to
    what it is now; accounts: {address: row}."""
    now = collections.defaultdict(dict)
    broken = []
    for entry in entries:
        was, became = fields(entry["was"]), fields(entry["became"])
        known = now[entry["address"]]
        for name in CHAINED:
            if name in known and was.get(name, known[name]) != known[name]:
                broken.append((entry["address"], name, known[name], entry))
            elif name in became and name in known and name not in was:
                broken.append((entry["address"], name, "no before", entry))
            if name in became:
                known[name] = became[name]
    for address, row in accounts.items():
        for name in CHAINED:
            if now[address].get(name) != str(row[name]):
                broken.append((address, name, now[address].get(name),
                               row[name]))
    return broken


def missing_acts(entries, acts):
    """acts: (event, address, words of the reason) in their order; those that
    the audit does not tell behind the one before."""
    at, missing = 0, []
    for act in acts:
        event, address, reason = act
        found = next((n for n in range(at, len(entries))
                      if entries[n]["event"] == event
                      and (entries[n]["address"] or "") == address
                      and reason in (entries[n]["reason"] or "")
                      and entries[n]["actor"].startswith("uid 0 (")), None)
        if found is None:
            missing.append(act)
        else:
            at = found + 1
    return missing
