"""All servers of one directory: chosen, configured, started, stopped."""

import concurrent.futures
import dataclasses
import json
import os
import pwd
import secrets
import grp
import shlex
import shutil
import sqlite3
import time
from pathlib import Path

from . import ca, node, ports
from .dovecot import Dovecot
from .node import Node
from .postfix import Postfix
from .processes import Records, start_time

MARK = "dev-up.json"  # what makes a directory ours
OWN_PORTS = ("imap", "imaps", "pop3", "pop3s", "smtp", "admin")
SERVER_PORTS = ("imap", "imaps", "pop3", "pop3s", "lmtp", "smtp")
PEOPLE = ("alice", "bob", "carol", "dave", "erin")
LONGEST_PATH = 70  # a socket's path holds 107 bytes, Dovecot's names are long

AUTH_TABLE = """\
CREATE TABLE IF NOT EXISTS users(
  username TEXT PRIMARY KEY, password TEXT, home TEXT, mail TEXT,
  uid INTEGER, gid INTEGER, prefix TEXT, separator TEXT,
  active INTEGER, epoch INTEGER)"""


@dataclasses.dataclass
class Settings:
    """The choices of dev-up; kept in the directory."""

    folder: str
    domain: str = "example.test"
    local_only: bool = False
    legacy_prefix: bool = False
    legacy_tls: str = "starttls"
    local_tls: str = "none"
    cutover: str = "auto"
    pop3: bool = True
    more_users: int = 0
    auth_failure_delay: int = 0
    login_processes: int = 2
    workers: int = 4
    delta_seconds: int = 5
    trail_inbox_seconds: int = 2
    trail_seconds: int = 5
    hold_seconds: int = 20
    on_flip_seconds: int = 60
    log_level: str = "info"
    remember_minutes: int = 10
    admin: bool = False  # the role that serves metrics
    hash_cost: int = 1000
    reserve: str = "{bytes: 0, inodes: 0}"  # of the store's file system
    doveadm: str = "[doveadm, -c, {conf}]"  # {conf}: the local Dovecot's
    master_password: str = dataclasses.field(
        default_factory=lambda: secrets.token_urlsafe(24))
    legacy_conf: str = ""  # lines of Dovecot's configuration, for legacy
    local_conf: str = ""  # and for local

    @property
    def owner(self):
        return "mail" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name

    @property
    def store(self):
        return Path(self.folder) / "mail"

    @property
    def auth_db(self):
        return Path(self.folder) / "state" / "dovecot" / "auth.db"

    def users(self):
        """Local part -> password on legacy."""
        names = list(PEOPLE)
        names += [f"user{n:03}" for n in range(1, self.more_users + 1)]
        return {name: f"pw-{name}" for name in names}


class World:
    """Servers by name: legacy-dovecot, legacy-postfix, local-dovecot,
    local-postfix, mailhauld."""

    def __init__(self, settings, chosen_ports, reservation=None):
        s = self.settings = settings
        self.reservation = reservation  # of the ports, by who made the world
        self.folder = Path(s.folder)
        self.ca = self.folder / "ca"
        self.records = Records(self.folder / "pids")
        self.own, self.legacy, self.local = chosen_ports
        self.node = Node(self.folder, self.ca, self.own, self.local, s)
        self.local_dovecot = Dovecot("local", self.folder / "local", self.ca,
                                     self.local, s)
        self.servers = {
            "local-dovecot": self.local_dovecot,
            "local-postfix": Postfix(
                "local", self.folder / "local-postfix", self.ca,
                self.local["smtp"], s, mailhaul_smtp=self.own["smtp"])}
        if not s.local_only:
            self.legacy_dovecot = Dovecot("legacy", self.folder / "legacy",
                                          self.ca, self.legacy, s)
            self.legacy_postfix = Postfix(
                "legacy", self.folder / "legacy-postfix", self.ca,
                self.legacy["smtp"], s, lmtp=self.legacy["lmtp"],
                mailhaul_smtp=self.own["smtp"])
            self.servers["legacy-dovecot"] = self.legacy_dovecot
            self.servers["legacy-postfix"] = self.legacy_postfix

    @classmethod
    def choose(cls, settings):
        """A new world; its ports are kept free for it until its removal, or
        the end of this process."""
        names = [("own", p) for p in OWN_PORTS]
        names += [("legacy", p) for p in SERVER_PORTS]
        names += [("local", p) for p in SERVER_PORTS]
        chosen = ports.pick(names)
        return cls(settings, [
            {p: chosen[s, p] for s, p in names if s == side}
            for side in ("own", "legacy", "local")], chosen)

    @classmethod
    def load(cls, folder):
        """The world that dev-up made there. FileNotFoundError if none."""
        mark = json.loads((Path(folder) / MARK).read_text())
        return cls(Settings(**mark["settings"]), mark["ports"])

    def configure(self):
        s = self.settings
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        (self.folder / MARK).write_text(json.dumps({
            "settings": dataclasses.asdict(s),
            "ports": [self.own, self.legacy, self.local]}))
        if not (self.ca / "ca.pem").exists():
            ca.make(self.ca)
            for name in ("mailhaul", "legacy", "local"):
                ca.issue(self.ca, name)
        self._make_owned()
        for server in self.servers.values():
            server.configure()
        self.node.configure()
        (self.folder / "env").write_text(self._env())

    def _make_owned(self):
        """The store, mailhaul's state, and an auth.db for a local Dovecot
        that may start before mailhaul ever ran."""
        auth_db = self.settings.auth_db
        for folder in (self.settings.store, auth_db.parent.parent,
                       auth_db.parent):
            folder.mkdir(exist_ok=True)
        files = [self.settings.store, auth_db.parent.parent]
        with sqlite3.connect(auth_db) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(AUTH_TABLE)
        db.close()
        auth_db.chmod(0o660)
        if os.getuid() == 0:
            owner = pwd.getpwnam(self.settings.owner)
            group = grp.getgrnam("dovecot").gr_gid
            for path in files:
                os.chown(path, owner.pw_uid, owner.pw_gid)
            for path in [auth_db.parent, *auth_db.parent.iterdir()]:
                os.chown(path, owner.pw_uid, group)
            auth_db.parent.chmod(0o2770)

    def _env(self):
        rows = {"MAILHAUL_CONFIG": self.node.conf,
                "CA_FILE": self.ca / "ca.pem",
                "DOMAIN": self.settings.domain,
                "LOCAL_DOVECOT_CONF": self.local_dovecot.conf,
                "STORE": self.settings.store}
        sides = [("", self.own), ("LOCAL_", self.local)]
        if not self.settings.local_only:
            rows["LEGACY_DOVECOT_CONF"] = self.legacy_dovecot.conf
            sides.append(("LEGACY_", self.legacy))
        for prefix, numbers in sides:
            for name, port in numbers.items():
                rows[f"{prefix}{name.upper()}_PORT"] = port
        if node.binaries():
            rows["BIN"] = node.binaries()
        return "".join(f"{k}={shlex.quote(str(v))}\n" for k, v in rows.items())

    def start(self, name):
        """Start one server and record it; `ready` tells when it answers."""
        server = self.node if name == "mailhauld" else self.servers[name]
        self.records.add(name, server.start())

    def stop(self, name, **kwargs):
        self.records.stop(name, **kwargs)

    def start_servers(self):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            begun = {name: pool.submit(server.start)
                     for name, server in self.servers.items()}
        failures = [f.exception() for f in begun.values() if f.exception()]
        for name, future in begun.items():
            if not future.exception():
                self.records.add(name, future.result())
        if failures:
            raise failures[0]
        for name in self.servers:
            self.wait_ready(name)

    def _ports_of(self, name):
        side, _, kind = name.partition("-")
        if name == "mailhauld":  # a web server greets nobody
            return {p: n for p, n in self.own.items() if p != "admin"}
        numbers = self.legacy if side == "legacy" else self.local
        return {p: n for p, n in numbers.items()
                if (p == "smtp") == (kind == "postfix")}

    def wait_ready(self, name, wait_s=10):
        """Until every port of the server answers."""
        deadline = time.monotonic() + wait_s
        for protocol, port in self._ports_of(name).items():
            while not ports.answers(port, 2, protocol[-1] != "s"):
                if self.records.pid(name) is None:
                    said = self.log_tail() if name == "mailhauld" else ""
                    raise OSError(f"{name} ended, see its log in {self.folder}"
                                  f"\n{said}".rstrip())
                if time.monotonic() > deadline:
                    raise OSError(f"{name}: nothing answers on port {port}")
                time.sleep(0.02)

    def legacy_urls(self):
        """Arguments of `mailhaul domain add` that name legacy."""
        s = self.settings
        args = ["--imap", node.tls_url("imap", s.legacy_tls, self.legacy)]
        if s.pop3:
            args += ["--pop3", node.tls_url("pop3", s.legacy_tls, self.legacy)]
        smtp = "smtp" if s.legacy_tls == "none" else "smtp+starttls"
        return args + ["--smtp", f"{smtp}://localhost:{self.legacy['smtp']}"]

    def add_domain(self):
        s = self.settings
        self.node.cli("domain", "add", s.domain, *self.legacy_urls(),
                      "--cutover", s.cutover,
                      "--hold-seconds", str(s.hold_seconds))
        self.node.cli("domain", "enable", s.domain)

    def run_node(self):
        """mailhauld, ready to serve."""
        self.start("mailhauld")
        self.wait_ready("mailhauld")

    def log_tail(self, lines=40):
        """The last lines of mailhauld's log."""
        try:
            text = self.node.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def stop_all(self):
        self.records.stop("mailhauld")
        self.records.stop(*self.records.all())

    def release_ports(self):
        if self.reservation is not None:
            self.reservation.release()

    def remove(self):
        self.release_ports()
        shutil.rmtree(self.folder)


def check_folder(folder):
    """None, or why servers cannot live there."""
    if len(str(folder)) > LONGEST_PATH:
        return f"{folder}: too long a path for sockets"
    for parent in list(folder.parents):
        if parent.exists() and not parent.stat().st_mode & 0o001:
            return f"{parent} may not be entered by others (chmod o+x)"
    return None


def is_running(world):
    return any(start_time(pid) == began
               for pid, began in world.records.all().values())
