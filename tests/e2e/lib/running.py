"""The servers of one test: devservers' World with clients and the CLI."""

import imaplib
import json
import os
import signal
import smtplib
import ssl
import subprocess
import tempfile
import time
from email.utils import formatdate
from pathlib import Path

from devservers import node
from devservers.filling import fill
from devservers.processes import descendants, start_time
from devservers.world import Settings, World

from .mbsync import Mbsync
from .pop3_reader import pop3_login
from .snapshot import snapshot
from .waiting import wait_until
from .wire import ImapWire, Wire, tls_context

SIDES = ("mailhaul", "legacy", "local")


class RunningWorld(World):
    """Everything of World; side is "mailhaul", "legacy" or "local" and user a
    local part or an address."""

    @classmethod
    def begin(cls, run=True, **settings):
        """Servers in a new directory; with run, mailhauld and the domain."""
        folder = tempfile.mkdtemp(prefix="mh-", dir="/tmp")
        for attempt in range(5):
            world = cls.choose(Settings(folder=folder, **settings))
            try:
                world.configure()
                world.start_servers()
                if run:
                    world.node.cli("init")
                    if not world.settings.local_only:
                        world.add_domain()
                    world.run_node()
                return world
            except OSError:
                world.stop_all()
                world.release_ports()
                if attempt == 4:
                    raise
        return None

    def end(self, keep=False):
        self.stop_all()
        if not keep:
            self.remove()

    # names

    def address(self, user):
        return user if "@" in user else f"{user}@{self.settings.domain}"

    def password(self, user):
        local = self.address(user).partition("@")[0].partition("+")[0]
        return self.settings.users().get(local, f"pw-{local}")

    def ports(self, side):
        return {"mailhaul": self.own, "legacy": self.legacy,
                "local": self.local}[side]

    @property
    def ca_file(self):
        return self.ca / "ca.pem"

    # clients

    def imap_connect(self, side="mailhaul", tls="none", wait_s=30):
        """A greeted imaplib client, not logged in."""
        ports = self.ports(side)
        if tls == "implicit":
            return imaplib.IMAP4_SSL("localhost", ports["imaps"],
                                     ssl_context=tls_context(self.ca_file),
                                     timeout=wait_s)
        imap = imaplib.IMAP4("localhost", ports["imap"], timeout=wait_s)
        if tls == "starttls":
            imap.starttls(ssl_context=tls_context(self.ca_file))
        return imap

    def imap(self, user="alice", side="mailhaul", tls="none", password=None):
        """A logged-in imaplib client."""
        imap = self.imap_connect(side, tls)
        imap.login(self.address(user), password or self.password(user))
        imap._get_capabilities()  # those after the login
        return imap

    def imap_wire(self, user=None, side="mailhaul", tls="none"):
        """An ImapWire, logged in if a user is given."""
        ports = self.ports(side)
        wire = ImapWire(ports["imaps" if tls == "implicit" else "imap"],
                        ca_file=self.ca_file, implicit=tls == "implicit")
        if tls == "starttls":
            wire.secure()
        if user:
            wire.login(self.address(user), self.password(user))
        return wire

    def wire(self, protocol, side="mailhaul"):
        """A Wire to the port of that name (imap, pop3, smtp, ...)."""
        return Wire(self.ports(side)[protocol], ca_file=self.ca_file,
                    implicit=protocol in ("imaps", "pop3s"))

    def pop3(self, user="alice", side="mailhaul", tls="none", password=None):
        port = self.ports(side)["pop3s" if tls == "implicit" else "pop3"]
        return pop3_login(port, self.address(user),
                          password or self.password(user), self.ca_file, tls)

    def smtp(self, side="mailhaul", tls=False):
        smtp = smtplib.SMTP("localhost", self.ports(side)["smtp"], timeout=60)
        smtp.ehlo("sender.test")
        if tls:
            smtp.starttls(context=ssl.create_default_context(
                cafile=str(self.ca_file)))
            smtp.ehlo("sender.test")
        return smtp

    def send(self, recipient="alice", side="mailhaul", sender="x@sender.test",
             serial=None, body="Hello.\r\n"):
        """One message by SMTP; its serial. smtplib's exceptions if refused."""
        serial = serial or f"m{time.monotonic_ns()}"
        head = (f"From: <{sender}>\r\nTo: <{self.address(recipient)}>\r\n"
                f"Subject: {serial}\r\nDate: {formatdate()}\r\n"
                f"Message-ID: <{serial}@sender.test>\r\n"
                f"X-Serial: {serial}\r\n\r\n")
        with self.smtp(side) as smtp:
            smtp.sendmail(sender, [self.address(recipient)], head + body)
        return serial

    def mbsync(self, user="alice", side="mailhaul", name="mbsync", **kwargs):
        tls = kwargs.setdefault("tls", "starttls")
        port = self.ports(side)["imaps" if tls == "implicit" else "imap"]
        return Mbsync(self.folder / name, port, self.address(user),
                      self.password(user), self.ca_file, **kwargs)

    # mailboxes

    def fill(self, user="alice", **how):
        """Life-like mail on legacy: messages=, folders=, total= (bytes)."""
        return fill(self, self.address(user), **how)

    def snapshot(self, user="alice", side="mailhaul", bodies=True):
        """What an IMAP client sees. Of legacy and before the flip also of
        local without touching either: EXAMINE and PEEK."""
        imap = self.imap(user, side)
        try:
            return snapshot(imap, bodies)
        finally:
            imap.logout()

    def add_legacy_user(self, user, password=None):
        """One more mailbox on legacy, for Dovecot only."""
        password = password or self.password(user)
        with open(self.legacy_dovecot.folder / "users", "a") as f:
            f.write(f"{self.address(user)}:{{PLAIN}}{password}::::::\n")

    def set_legacy_password(self, user, password):
        path = self.legacy_dovecot.folder / "users"
        start = f"{self.address(user)}:"
        rows = [f"{start}{{PLAIN}}{password}::::::\n"
                if row.startswith(start) else row
                for row in path.read_text().splitlines(True)]
        part = path.with_suffix(".part")
        part.write_text("".join(rows))
        part.chmod(0o644)
        part.rename(path)
        # Dovecot looks at the file once a second at most
        test = ["doveadm", "-c", str(self.legacy_dovecot.conf), "auth", "test",
                self.address(user), password]
        wait_until(lambda: subprocess.run(test, capture_output=True)
                   .returncode == 0)

    # mailhaul

    def mailhaul(self, *args, check=True, wait_s=120):
        """mailhaul --json ARGS: its document; with check=False the finished
        process instead."""
        done = subprocess.run(
            [str(node.binaries() / "mailhaul"), "-c", str(self.node.conf),
             "--json", *map(str, args)],
            capture_output=True, text=True, timeout=wait_s)
        if not check:
            return done
        assert done.returncode == 0, (args, done.returncode, done.stdout,
                                      done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None

    def account(self, user="alice"):
        """`account show` as a dict, None if there is no account."""
        done = self.mailhaul("account", "show", self.address(user),
                             check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_account(self, user="alice", wait_s=60, **wanted):
        """Until the account has those values: route="local", copy="delta"."""
        def reached():
            row = self.account(user)
            return row if row and all(
                row.get(k) in (v if isinstance(v, tuple) else (v,))
                for k, v in wanted.items()) else None
        return wait_until(reached, wait_s, 0.1,
                          lambda: f"{wanted}: {self.account(user)}\n"
                                  f"{self.log_tail()}")

    def move(self, user="alice", wait_s=60):
        """Log in for the first time, and wait until the user lives here."""
        self.imap(user).logout()
        return self.wait_account(user, wait_s, route="local")

    def processes(self):
        """[(pid, its arguments)] of mailhauld's children and theirs."""
        found = []
        for pid, _ in descendants(self.records.pid("mailhauld")):
            try:
                raw = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            found.append((pid, raw.decode().rstrip("\0").split("\0")))
        return found

    def pids(self, role):
        """Of a role ("login", "state", ...) or of the workers ("worker")."""
        return [pid for pid, argv in self.processes()
                if role in argv[1:] or argv[0].endswith(f"-{role}")]

    def kill(self, role, number=signal.SIGKILL):
        """Signal all processes of a role; how many there were. "master" is
        mailhauld itself."""
        master = self.records.pid("mailhauld")
        pids = [master] if role == "master" else self.pids(role)
        orphans = descendants(master) if role == "master" else []
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        # without master they end by themselves
        wait_until(lambda: all(t is None or start_time(p) != t
                               for p, t in orphans), 15, 0.05,
                   lambda: f"orphans of mailhauld: {orphans}")
        return len(pids)

    def hang_up(self):
        """SIGHUP: mailhauld begins a new generation of its processes."""
        os.kill(self.records.pid("mailhauld"), signal.SIGHUP)

    def family(self, name):
        """All processes of a server: itself and those below it."""
        pid = self.records.pid(name)
        return [pid] + [child for child, _ in descendants(pid)]

    def restart_node(self, number=signal.SIGKILL):
        """End mailhauld and all its processes with a signal, start again."""
        self.stop("mailhauld", number=number)
        self.run_node()
