"""Postfix in a directory: legacy's MX, and the local platform's own MTA."""

import os
import pwd
import subprocess
import time

from .processes import daemonize, pid_from_file

MAIN = """\
# made by scripts/dev-up
compatibility_level = 3.6
myhostname = {host}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
queue_directory = {dir}/queue
data_directory = {dir}/lib
mail_owner = postfix
setgid_group = postdrop
maillog_file = {dir}/postfix.log
maillog_file_prefixes = {dir}
alias_maps =
alias_database =
local_recipient_maps =
local_transport = error:no local users
default_transport = error:the world ends here
recipient_delimiter = +
biff = no
disable_vrfy_command = no
message_size_limit = 314572800
mailbox_size_limit = 0
virtual_mailbox_limit = 0
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
smtp_dns_support_level = disabled
smtp_host_lookup = native
lmtp_host_lookup = native
# an attempt that failed is repeated at once: tests do not wait minutes
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 3s
smtp_destination_rate_delay = 0
lmtp_destination_concurrency_failed_cohort_limit = 0
smtp_destination_concurrency_failed_cohort_limit = 0
smtpd_tls_security_level = may
smtpd_tls_cert_file = {ca}/{name}.pem
smtpd_tls_key_file = {ca}/{name}.key
smtp_tls_security_level = may
smtp_tls_CAfile = {ca}/ca.pem
{rules}
"""

LEGACY = """\
smtpd_relay_restrictions = reject_unauth_destination
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = texthash:{dir}/mailboxes
virtual_alias_maps = texthash:{dir}/aliases
virtual_transport = lmtp:inet:127.0.0.1:{lmtp}
transport_maps = hash:{dir}/forward/transport
"""

# What a domain's --on-flip may run: legacy sends the address's mail to mailhaul
# from then on. Postfix looks every 10 s whether the table has changed.
FORWARD = """\
#!/bin/sh -e
cd {dir}/forward
exec 9> lock
flock 9
grep -qF "$MAILHAUL_ADDRESS " transport ||
    echo "$MAILHAUL_ADDRESS smtp:[127.0.0.1]:{mailhaul_smtp}" >> transport
exec postmap -c {dir}/etc hash:transport
"""

# Mail of served domains goes to mailhaul, which knows the side.
LOCAL = """\
smtpd_relay_restrictions = permit_mynetworks, reject
relay_domains = {domain}
transport_maps = inline:{{ {domain}=smtp:[127.0.0.1]:{mailhaul_smtp} }}
"""

MASTER = """\
127.0.0.1:{port} inet n - n - 200 smtpd
cleanup    unix  n - n -    0 cleanup
qmgr       unix  n - n 300  1 qmgr
rewrite    unix  - - n -    - trivial-rewrite
bounce     unix  - - n -    0 bounce
defer      unix  - - n -    0 bounce
trace      unix  - - n -    0 bounce
verify     unix  - - n -    1 verify
flush      unix  n - n 1000? 0 flush
proxymap   unix  - - n -    - proxymap
proxywrite unix  - - n -    1 proxymap
smtp       unix  - - n -    - smtp
relay      unix  - - n -    - smtp
lmtp       unix  - - n -    - lmtp
error      unix  - - n -    - error
retry      unix  - - n -    - error
discard    unix  - - n -    - discard
anvil      unix  - - n -    1 anvil
scache     unix  - - n -    1 scache
tlsmgr     unix  - - n 1000? 1 tlsmgr
showq      unix  n - n -    - showq
postlog    unix-dgram n - n - 1 postlogd
"""

ALIASES = {"sales": ["alice"], "team": ["alice", "bob"]}


class Postfix:
    """name is "legacy" or "local"; port is its SMTP port."""

    def __init__(self, name, folder, ca, port, settings, **words):
        self.name, self.folder, self.ca = name, folder, ca
        self.port, self.settings, self.words = port, settings, words

    def configure(self):
        s = self.settings
        etc = self.folder / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        (self.folder / "queue").mkdir(exist_ok=True)
        lib = self.folder / "lib"
        lib.mkdir(exist_ok=True)
        os.chown(lib, pwd.getpwnam("postfix").pw_uid, -1)
        lib.chmod(0o700)
        rules = LEGACY if self.name == "legacy" else LOCAL
        words = dict(dir=self.folder, ca=self.ca, name=self.name,
                     domain=s.domain, host=f"mx.{self.name}.{s.domain}",
                     **self.words)
        (etc / "main.cf").write_text(
            MAIN.format(rules=rules.format(**words), **words))
        (etc / "master.cf").write_text(MASTER.format(port=self.port))
        if self.name == "legacy":
            self._make_tables()
            self._make_forward(words)
        # Postfix waits a second or two before it trusts a file this young
        for path in [*etc.iterdir(), *self.folder.iterdir()]:
            if path.is_file():
                os.utime(path, (time.time() - 60,) * 2)

    def _make_tables(self):
        at = "@" + self.settings.domain
        mailboxes = "".join(
            f"{user}{at} yes\n" for user in self.settings.users())
        aliases = "".join(
            f"{alias}{at} {', '.join(user + at for user in users)}\n"
            for alias, users in ALIASES.items())
        (self.folder / "mailboxes").write_text(mailboxes)
        (self.folder / "aliases").write_text(aliases)

    def _make_forward(self, words):
        folder = self.folder / "forward"
        folder.mkdir(exist_ok=True)
        script = folder / "to-mailhaul"
        script.write_text(FORWARD.format(**words))
        script.chmod(0o755)
        table = folder / "transport"
        table.touch()
        subprocess.run(["postmap", "-c", str(self.folder / "etc"),
                        f"hash:{table}"], check=True)
        owner = pwd.getpwnam(self.settings.owner).pw_uid
        for path in (folder, table, folder / "transport.db"):
            os.chown(path, owner, -1)

    def start(self):
        """The master's pid."""
        pid_file = self.folder / "queue" / "pid" / "master.pid"
        pid_file.unlink(missing_ok=True)
        daemonize(["postfix", "-c", str(self.folder / "etc"), "start"])
        return pid_from_file(pid_file)

    def queue_length(self):
        done = subprocess.run(
            ["postqueue", "-c", str(self.folder / "etc"), "-j"],
            capture_output=True, text=True, check=True)
        return len(done.stdout.splitlines())

    def flush(self):
        subprocess.run(["postqueue", "-c", str(self.folder / "etc"), "-f"],
                       check=True, capture_output=True)
