"""Servers that scripts/unpack-servers laid into build/servers, and what is
common to those that tests start from there."""

import os
import subprocess
from pathlib import Path

SERVERS = Path(__file__).resolve().parents[2] / "build" / "servers"
LIBRARIES = ("usr/lib", "usr/lib/courier-authlib", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu",
             "usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu")


class Unpacked:
    """One server in a folder. users: address -> password; ports: imap and
    pop3. What inherits says its `kind`, configure() and start()."""

    kind = None

    def __init__(self, folder, ports, users, owner="mail"):
        self.folder, self.ports, self.users = folder, ports, users
        self.owner = owner
        self.root = SERVERS / self.kind
        if not (self.root / "packages").exists():
            raise OSError(f"no {self.root}: run scripts/unpack-servers")

    def environment(self):
        paths = [str(self.root / p) for p in self.libraries()]
        return {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": ":".join(paths)}

    def libraries(self):
        return [p for p in LIBRARIES if (self.root / p).is_dir()]

    def write(self, name, text, mode=0o644):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def run(self, program, *args, **kwargs):
        """A program of the server, to its end."""
        return subprocess.run([str(self.root / program), *map(str, args)],
                              check=True, capture_output=True,
                              env=self.environment(), **kwargs)

    def spawn(self, argv):
        """The pid of a server that stays in the foreground, in a process
        group of its own; it writes into log."""
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(
                list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=self.environment(), cwd=self.folder,
                start_new_session=True).pid


def crypted(password):
    """As crypt(3) has it."""
    return subprocess.run(["openssl", "passwd", "-6", "-stdin"], check=True,
                          capture_output=True, text=True,
                          input=password).stdout.strip()
