"""Cyrus IMAP and POP3 in a directory, under Cyrus' own master."""

import os
import pwd

from .unpacked import Unpacked

IMAPD_CONF = """\
configdirectory: {dir}/config
proc_path: {dir}/run/proc
mboxname_lockpath: {dir}/run/lock
idlesocket: {dir}/run/idle
defaultpartition: default
partition-default: {dir}/mail
sieveusehomedir: false
sievedir: {dir}/sieve
cyrus_user: {owner}
admins: cyrus
servername: localhost
virtdomains: userid
defaultdomain: default.invalid
autocreate_quota: 0
autocreate_post: 1
altnamespace: {altnamespace}
unixhierarchysep: {unixhierarchysep}
allowplaintext: yes
popminpoll: 0
duplicatesuppression: no
skiplist_unsafe: 1
failedloginpause: 0
sasl_mech_list: PLAIN LOGIN
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {dir}/sasldb2
"""
CYRUS_CONF = """\
START {{
  recover cmd="{bin}/ctl_cyrusdb -C {dir}/imapd.conf -r"
}}
SERVICES {{
  imap cmd="{bin}/imapd -C {dir}/imapd.conf" listen="127.0.0.1:{imap}" prefork=1 maxchild=100
  pop3 cmd="{bin}/pop3d -C {dir}/imapd.conf" listen="127.0.0.1:{pop3}" prefork=0 maxchild=100
}}
EVENTS {{
  checkpoint cmd="{bin}/ctl_cyrusdb -C {dir}/imapd.conf -c" period=300
}}
"""


class Cyrus(Unpacked):
    """With has_prefix folders are below INBOX, with dots between; without,
    beside it, with slashes."""

    kind = "cyrus"

    def __init__(self, *args, has_prefix=True, **kwargs):
        super().__init__(*args, **kwargs)
        self.has_prefix = has_prefix

    def environment(self):
        plugins = [str(self.root / p / "sasl2") for p in self.libraries()]
        plugins += [f"/{p}/sasl2" for p in self.libraries()]
        return {**super().environment(), "SASL_PATH": ":".join(plugins)}

    def configure(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        owner = pwd.getpwnam(self.owner)
        for name in ("config", "run", "mail", "sieve"):
            (self.folder / name).mkdir(exist_ok=True)
            os.chown(self.folder / name, owner.pw_uid, owner.pw_gid)
        yes_or_no = "no" if self.has_prefix else "yes"
        words = dict(dir=self.folder, owner=self.owner,
                     altnamespace=yes_or_no, unixhierarchysep=yes_or_no,
                     bin=self.root / "usr/lib/cyrus/bin", **self.ports)
        self.write("imapd.conf", IMAPD_CONF.format(**words))
        self.write("cyrus.conf", CYRUS_CONF.format(**words))
        for address, password in self.users.items():
            self.set_password(address, password)

    def set_password(self, address, password):
        local, _, domain = address.partition("@")
        database = self.folder / "sasldb2"
        self.run("usr/sbin/saslpasswd2", "-p", "-c", "-f", database, "-u",
                 domain, local, input=password.encode())
        owner = pwd.getpwnam(self.owner)
        os.chown(database, owner.pw_uid, owner.pw_gid)

    def start(self):
        return self.spawn([
            self.root / "usr/lib/cyrus/bin/master", "-C",
            self.folder / "imapd.conf", "-M", self.folder / "cyrus.conf",
            "-p", self.folder / "run" / "master.pid"])
