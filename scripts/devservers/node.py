"""mailhaul's own node in the directory: configuration, start."""

import os
import subprocess
from pathlib import Path

CONFIG = """\
# made by scripts/dev-up
node: mx.{domain}
state_dir: {dir}/state
{user}database: sqlite:control.db
roles: [login, smtp, jobs{admin_role}]
log: {{level: {log_level}, to: stderr}}
tls:
  certificate: {ca}/mailhaul.pem
  key: {ca}/mailhaul.key
  minimum: "1.2"
  ca_file: {ca}/ca.pem
listen:
  - {{protocol: imap, address: 127.0.0.1, port: {imap}, tls: starttls, plain_auth: true}}
  - {{protocol: imap, address: 127.0.0.1, port: {imaps}, tls: implicit}}
  - {{protocol: pop3, address: 127.0.0.1, port: {pop3}, tls: starttls, plain_auth: true}}
  - {{protocol: pop3, address: 127.0.0.1, port: {pop3s}, tls: implicit}}
  - {{protocol: smtp, address: 127.0.0.1, port: {smtp}, tls: starttls}}
local:
  imap: {local_imap}
  pop3: {local_pop3}
  lmtp: lmtp://127.0.0.1:{local_lmtp}
  master_user: mailhaul
  master_password_file: {dir}/local-master
secrets: {{key: {dir}/keys/mailhaul.key}}
store:
  type: maildir
  path: "{store}/{{domain}}/{{local}}/Maildir"
  reserve: {reserve}
{owner}provision:
  dovecot: dovecot/auth.db
  doveadm: {doveadm}
jobs:
  workers: {workers}
  per_host: 8
  delta_seconds: {delta_seconds}
  trail_inbox_seconds: {trail_inbox_seconds}
  trail_seconds: {trail_seconds}
  retry_seconds: 1
  on_flip_seconds: {on_flip_seconds}
login:
  processes: {login_processes}
  hold_quiet_ms: 300
  hold_force_ms: 5000
  remember_minutes: {remember_minutes}
hash:
  scheme: SHA512-CRYPT
  cost: {hash_cost}
admin: {{address: 127.0.0.1, port: {admin}}}
"""

PROGRAMS = ("mailhauld", "mailhaul", "mailhaul-worker")


def binaries():
    """The folder of the programs ($BIN, else build/release), or None."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("BIN") or root / "build" / "release")
    folder = folder.absolute()
    return folder if all((folder / p).exists() for p in PROGRAMS) else None


def tls_url(protocol, tls, ports):
    """tls: none, starttls or implicit."""
    if tls == "implicit":
        return f"{protocol}s://localhost:{ports[protocol + 's']}"
    scheme = f"{protocol}+starttls" if tls == "starttls" else protocol
    return f"{scheme}://localhost:{ports[protocol]}"


class Node:
    """ports: mailhaul's own; local: those of the local servers."""

    def __init__(self, folder, ca, ports, local, settings):
        self.folder, self.ca = folder, ca
        self.ports, self.local, self.settings = ports, local, settings
        self.conf = folder / "mailhaul.yaml"
        self.log = folder / "mailhaul.log"

    def configure(self):
        s = self.settings
        is_root = os.getuid() == 0
        secret = self.folder / "local-master"
        secret.touch(0o600)
        secret.write_text(s.master_password + "\n")
        self.conf.write_text(CONFIG.format(
            dir=self.folder, ca=self.ca, domain=s.domain, store=s.store,
            user=f"user: {s.owner}\n" if is_root else "",
            owner=f"  owner: {s.owner}\n" if is_root else "",
            local_imap=tls_url("imap", s.local_tls, self.local),
            local_pop3=tls_url("pop3", s.local_tls, self.local),
            local_lmtp=self.local["lmtp"],
            login_processes=s.login_processes, workers=s.workers,
            remember_minutes=s.remember_minutes, hash_cost=s.hash_cost,
            delta_seconds=s.delta_seconds, log_level=s.log_level,
            trail_inbox_seconds=s.trail_inbox_seconds,
            trail_seconds=s.trail_seconds, reserve=s.reserve,
            on_flip_seconds=s.on_flip_seconds,
            admin_role=", admin" if s.admin else "",
            doveadm=s.doveadm.format(
                conf=self.folder / "local" / "dovecot.conf"), **self.ports))

    def cli(self, *args):
        """mailhaul ARGS; OSError with what it said if it fails."""
        done = subprocess.run(
            [str(binaries() / "mailhaul"), "-c", str(self.conf), *args],
            capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"mailhaul {' '.join(args)}: exit "
                          f"{done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def start(self):
        """Start mailhauld; its pid."""
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [str(binaries() / "mailhauld"), "-c", str(self.conf),
                 "--foreground"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True).pid
