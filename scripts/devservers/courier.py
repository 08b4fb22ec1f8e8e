"""Courier IMAP and POP3 in a directory, with Courier's authdaemond.

Their programs look below /etc/courier and /run/courier, whatever one says:
they run in a mount namespace of their own, in which the directory's etc and
run lie there. Nobody else sees that."""

import os
import pwd

from .unpacked import Unpacked, crypted

# their names for what is in the environment of the login programs
ENVIRONMENT = """\
ADDRESS=127.0.0.1
DEBUG_LOGIN=0
DEFDOMAIN=
IMAP_CAPABILITY="IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE"
IMAP_KEYWORDS=1
IMAP_ACL=1
IMAP_CHECK_ALL_FOLDERS=0
IMAP_EMPTYTRASH=
IMAP_ENHANCEDIDLE=0
IMAP_IDLE_TIMEOUT=60
IMAP_MAILBOX_SANITY_CHECK=1
IMAP_MOVE_EXPUNGE_TO_TRASH=0
IMAP_OBSOLETE_CLIENT=0
IMAP_PROXY=0
IMAP_TRASHFOLDERNAME=Trash
IMAP_USELOCKS=0
IMAP_TLS_REQUIRED=0
POP3AUTH=LOGIN
POP3_PROXY=0
POP3_TLS_REQUIRED=0
"""
AUTHDAEMONRC = """\
authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=4
authdaemonvar=/run/courier/authdaemon
DEBUG_LOGIN=0
DEFAULTOPTIONS=""
LOGGEROPTS=""
"""
RUN = """\
#!/bin/sh
# in a mount namespace of its own; ends with all that it started
set -e
mount --bind {dir}/etc /etc
mount --bind {dir}/run /run
set -a
. {dir}/environment
set +e
# couriertcpd leads a group of its own, with its sessions
trap 'kill -s KILL -- -$imap -$pop 0' TERM
lib={root}/usr/lib/courier
$lib/courier-authlib/authdaemond &
tcpd="{root}/usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=100"
tcpd="$tcpd -maxperip=100 -nodnslookup -noidentlookup"
$tcpd {imap} $lib/courier/imaplogin {root}/usr/bin/imapd Maildir &
imap=$!
$tcpd {pop3} $lib/courier/courierpop3login $lib/courier/courierpop3d Maildir &
pop=$!
wait
"""
# of the real /etc what programs need to find users, addresses and libraries
ETC = ("passwd", "group", "nsswitch.conf", "hosts", "ld.so.cache", "localtime")


class Courier(Unpacked):
    kind = "courier"

    def configure(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        words = dict(dir=self.folder, root=self.root, **self.ports)
        for name in ETC:
            with open(f"/etc/{name}", "rb") as f:
                (self.folder / "etc").mkdir(exist_ok=True)
                (self.folder / "etc" / name).write_bytes(f.read())
        (self.folder / "run" / "courier" / "authdaemon").mkdir(
            parents=True, exist_ok=True)
        self.write("etc/courier/authdaemonrc", AUTHDAEMONRC)
        self.write("environment", ENVIRONMENT)
        self.write("run.sh", RUN.format(**words), 0o755)
        (self.folder / "mail").mkdir(exist_ok=True)
        self._own(self.folder / "mail")
        for address in self.users:
            self._make_maildir(address)
        self.write_users()

    def write_users(self):
        """What authdaemond knows, from self.users."""
        owner = pwd.getpwnam(self.owner)
        rows = [f"{address}\thome={self.home(address)}|uid={owner.pw_uid}|"
                f"gid={owner.pw_gid}" for address in self.users]
        secret = [f"{address}\tsystempw={crypted(password)}"
                  for address, password in self.users.items()]
        for name, lines in (("userdb", rows), ("userdbshadow", secret)):
            folder = self.folder / "etc" / "courier"
            self.run("usr/lib/courier/courier-authlib/makedatprog", "-",
                     folder / f"{name}.part", folder / f"{name}.dat",
                     input="\n".join([*lines, ".", ""]).encode())
            (folder / f"{name}.dat").chmod(0o600)

    def home(self, address):
        return self.folder / "mail" / address

    def _own(self, path):
        owner = pwd.getpwnam(self.owner)
        os.chown(path, owner.pw_uid, owner.pw_gid)

    def _make_maildir(self, address):
        for part in ("", "Maildir", "Maildir/new", "Maildir/cur",
                     "Maildir/tmp"):
            path = self.home(address) / part
            if not path.exists():
                path.mkdir()
                self._own(path)

    def start(self):
        return self.spawn(["unshare", "--mount", "--propagation", "private",
                           "sh", self.folder / "run.sh"])
