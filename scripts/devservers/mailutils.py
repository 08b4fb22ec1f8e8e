"""GNU mailutils imap4d and pop3d in a directory; mailboxes are of
its own default format, mbox. (Of a Maildir imap4d gives out another
UIDVALIDITY whenever it was only looked at.)"""

import os
import pwd

from .unpacked import Unpacked, crypted

# virtdomain looks for a file of the domain's name, in the form of passwd(5)
COMMON = """\
logging {{
  syslog no;
  severity info;
}}
auth {{
  authentication clear;
  authentication generic;
  authorization clear;
  authorization virtdomain;
}}
virtdomain {{
  passwd-dir {dir}/domains;
}}
mailbox {{
  mailbox-pattern "mbox:{dir}/mail/${{user}}/INBOX";
  mailbox-type mbox;
}}
tcp-wrappers {{
  enable no;
}}
mode daemon;
foreground yes;
max-children 100;
pidfile {dir}/{name}.pid;
mandatory-locking {{
  enable yes;
  lock-directory {dir}/locks;
}}
server 127.0.0.1:{port} {{
  timeout 1800;
}}
"""
IMAP = """\
namespace personal {{
  prefix "" {{
    directory "$home/folders";
    delimiter "/";
    mailbox-type mbox;
  }}
}}
"""
# one pid for both: ends with what it started
RUN = """\
#!/bin/sh
trap 'kill -s KILL 0' TERM
for name in imap4d pop3d; do
  {root}/usr/sbin/$name --no-site-config \\
    --config-file={dir}/$name.conf &
done
wait
"""


class Mailutils(Unpacked):
    kind = "mailutils"

    def configure(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, port, more in (("imap4d", self.ports["imap"], IMAP),
                                 ("pop3d", self.ports["pop3"], "")):
            self.write(f"{name}.conf", (COMMON + more).format(
                dir=self.folder, name=name, port=port))
        self.write("run.sh", RUN.format(dir=self.folder, root=self.root),
                   0o755)
        self._make(self.folder / "locks")
        self._make(self.folder / "mail")
        for address in self.users:
            for part in ("", "folders"):
                self._make(self.folder / "mail" / address / part)
        self.write_users()

    def _make(self, path):
        owner = pwd.getpwnam(self.owner)
        if not path.exists():
            path.mkdir()
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def write_users(self):
        owner = pwd.getpwnam(self.owner)
        domains = {}
        for address, password in self.users.items():
            local, _, domain = address.partition("@")
            domains.setdefault(domain, []).append(
                f"{local}:{crypted(password)}:{owner.pw_uid}:{owner.pw_gid}::"
                f"{self.folder}/mail/{address}:/bin/false\n")
        for domain, rows in domains.items():
            self.write(f"domains/{domain}", "".join(rows))

    def start(self):
        return self.spawn(["sh", self.folder / "run.sh"])
