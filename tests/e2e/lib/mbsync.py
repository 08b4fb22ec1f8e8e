"""mbsync with its state: a real client that caches by UID."""

import subprocess
from pathlib import Path

from .relay import CountingRelay

CONFIG = """\
FSync no

IMAPAccount mailhaul
Host localhost
Port {port}
User {user}
Pass {password}
SSLType {tls}
CertificateFile {ca}
AuthMechs {mechanism}
PipelineDepth 50

IMAPStore far
Account mailhaul

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns {patterns}
Create Near
Expunge Near
Sync {sync}
CopyArrivalDate yes
SyncState {folder}/state/
"""

TLS = {"none": "None", "starttls": "STARTTLS", "implicit": "IMAPS"}


class Mbsync:
    """Its cache lives in `folder`. pulled() counts messages and bytes."""

    def __init__(self, folder, port, user, password, ca_file, tls="starttls",
                 patterns="*", sync="All", mechanism="LOGIN"):
        self.folder = Path(folder)
        for name in ("mail", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.relay = CountingRelay(port)
        self.conf = self.folder / "mbsyncrc"
        self.conf.write_text(CONFIG.format(
            port=self.relay.port, user=user, password=password,
            tls=TLS[tls], ca=ca_file, folder=self.folder, patterns=patterns,
            sync=sync, mechanism=mechanism))
        self.conf.chmod(0o600)

    def messages(self):
        """Base names of the messages in its cache, flags cut off: a name
        stays while its message is not downloaded again."""
        return {str(p.parent.parent.relative_to(self.folder)) + "/" +
                p.name.partition(":")[0]
                for place in ("cur", "new")
                for p in self.folder.glob(f"mail/**/{place}/*")
                if p.is_file() and p.name[0] != "."}

    def sync(self, wait_s=120):
        """One run: {"new": messages downloaded, "gone": removed, "bytes": from
        the server, "output", "code"}."""
        before, bytes_before = self.messages(), self.relay.to_client
        done = subprocess.run(["mbsync", "-c", str(self.conf), "-a"],
                              capture_output=True, text=True, timeout=wait_s,
                              errors="replace")
        after = self.messages()
        return {"new": len(after - before), "gone": len(before - after),
                "bytes": self.relay.to_client - bytes_before,
                "output": done.stdout + done.stderr, "code": done.returncode}

    def close(self):
        self.relay.close()
