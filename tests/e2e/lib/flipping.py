"""A world whose legacy servers stand behind gates, and one account after the
other to be flipped in it."""

import sys
import threading
from email.utils import formatdate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fakes"))

from gate import Gate  # noqa: E402

from .snapshot import differences, find_serials  # noqa: E402
from .waiting import wait_until  # noqa: E402


class Background(threading.Thread):
    """work() beside the test; result() waits for what it returned."""

    def __init__(self, work, *args):
        super().__init__(daemon=True)
        self.work, self.args = work, args
        self.value = self.trouble = None
        self.start()

    def run(self):
        try:
            self.value = self.work(*self.args)
        except BaseException as trouble:  # told to the test by result()
            self.trouble = trouble

    def result(self, wait_s=60):
        self.join(wait_s)
        assert not self.is_alive(), f"{self.work} hangs"
        if self.trouble:
            raise self.trouble
        return self.value


def message(serial, body="Hello.\r\n"):
    return (f"From: <x@sender.test>\r\nTo: <y@sender.test>\r\n"
            f"Subject: {serial}\r\nDate: {formatdate()}\r\n"
            f"Message-ID: <{serial}@sender.test>\r\nX-Serial: {serial}\r\n"
            f"\r\n{body}").encode()


class Flipping:
    """gates: imap, pop3, smtp, between mailhaul and legacy, in clear."""

    def __init__(self, world):
        self.world = world
        self.count = 0
        self.imap = Gate(world.legacy["imap"])
        self.pop3 = Gate(world.legacy["pop3"])
        self.smtp = Gate(world.legacy["smtp"])
        self.set_domain("--imap", f"imap://127.0.0.1:{self.imap.port}",
                        "--pop3", f"pop3://127.0.0.1:{self.pop3.port}",
                        "--smtp", f"smtp://127.0.0.1:{self.smtp.port}")

    def set_domain(self, *args):
        self.world.mailhaul("domain", "set", self.world.settings.domain, *args)

    def calm(self):
        for gate in (self.imap, self.pop3, self.smtp):
            gate.calm()

    def close(self):
        for gate in (self.imap, self.pop3, self.smtp):
            gate.close()

    # accounts

    def newcomer(self, messages=5):
        """A user whom mailhaul does not know yet, with some mail on legacy."""
        self.count += 1
        user = f"user{self.count:03}"
        with self.world.imap(user, "legacy") as imap:
            for n in range(messages):
                imap.append("INBOX", "", None, message(f"{user}-{n}"))
        return user

    def copied(self, messages=5):
        """A user whose mailbox could be flipped."""
        user = self.newcomer(messages)
        self.world.imap(user).logout()
        self.world.wait_account(user, copy="delta", clean=True)
        return user

    def cutover(self, user):
        self.world.mailhaul("cutover", self.world.address(user))

    def await_held(self, user):
        return self.world.wait_account(user, route="held")

    def await_moved(self, user):
        return self.world.wait_account(user, route="local", provisioned=True)

    def is_held(self, user):
        row = self.world.account(user)
        return bool(row) and row["route"] == "held"

    def at_final(self, user, pattern=rb" STATUS INBOX", side="command"):
        """A Stop in the last delta of the user."""
        return self.imap.stop(pattern, self.world.address(user), side,
                              lambda: self.is_held(user))

    def hold(self, user):
        """Begin the flip; the Stop in whose window the account is held."""
        stop = self.at_final(user)
        self.cutover(user)
        stop.wait()
        return stop

    def logged(self, user, text):
        """Lines of mailhaul's log that name the user's account and text."""
        address = self.world.address(user)
        lines = self.world.node.log.read_text(errors="replace").splitlines()
        return [x for x in lines if f"account {address} " in x and text in x]

    # mailboxes

    def places(self, user, serial, side):
        """Where a message is, on "legacy" or "local": [(folder, uid)]."""
        imap = self.world.imap(user, side)
        try:
            return find_serials(imap).get(serial, [])
        finally:
            imap.logout()

    def await_place(self, user, serial, side="local", wait_s=60):
        """Until the message is found there; never more than once."""
        found = wait_until(lambda: self.places(user, serial, side), wait_s,
                           0.3, f"{serial} on {side}")
        assert len(found) == 1, found
        return found[0]

    def check_same(self, before, user):
        """local shows all that `before` (a snapshot) shows."""
        found = differences(before, self.world.snapshot(user, "local"))
        assert not found, "\n".join(found)
