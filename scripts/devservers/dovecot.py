"""Dovecot in a directory: the legacy server and the local one."""

import hashlib
import os
import pwd
import shutil
import subprocess

from .processes import daemonize, pid_from_file

COMMON = """\
# made by scripts/dev-up
protocols = imap pop3 lmtp
listen = 127.0.0.1
base_dir = {dir}/run
state_dir = {dir}/run
log_path = {dir}/dovecot.log
instance_name = {dir}
hostname = localhost
postmaster_address = postmaster@{domain}
recipient_delimiter = +
mail_plugins = listescape
mail_max_userip_connections = 2000
mail_fsync = {fsync}
first_valid_uid = 1
first_valid_gid = 1
mail_uid = {owner}
mail_gid = {owner}
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = {failure_delay}
auth_cache_size = 0
ssl = yes
ssl_cert = <{ca}/{name}.pem
ssl_key = <{ca}/{name}.key
ssl_dh =
{accounts}

default_client_limit = 4000
default_process_limit = 1000
service imap-login {{
  service_count = 0
  process_min_avail = 1
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  service_count = 0
  process_min_avail = 1
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
service auth {{
  client_limit = 8000
}}
service anvil {{
  client_limit = 8000
  # no tarpit: all test clients come from one address
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  client_limit = 8000
}}
"""

# boss opens every mailbox, by SASL or as USER*boss; app-users has further
# passwords of users
LEGACY = """\
auth_master_user_separator = *
passdb {{
  driver = passwd-file
  args = {dir}/masters
  master = yes
}}
passdb {{
  driver = passwd-file
  args = username_format=%Lu {dir}/users
}}
passdb {{
  driver = passwd-file
  args = username_format=%Lu {dir}/app-users
}}
userdb {{
  driver = passwd-file
  args = username_format=%Lu {dir}/users
  default_fields = uid={owner} gid={owner} home={dir}/mail/%Lu
}}
mail_location = maildir:~/Maildir
pop3_uidl_format = %08Xu%08Xv
namespace inbox {{
  inbox = yes
  prefix = {prefix}
  separator = {separator}
{special}
}}
"""

# The order of UID and UIDVALIDITY in a UIDL is not legacy's: what survives a
# migration must have been carried over, not computed alike.
LOCAL = """\
# mailhaul logs in as anybody, by the authorization name of PLAIN; the next
# passdb then says whether there is such a user here, and hashes nothing
passdb {{
  driver = passwd-file
  args = {dir}/masters
  master = yes
  result_success = continue
}}
passdb {{
  driver = sql
  args = {dir}/sql.conf
}}
{further}
# what the password's query has said already is not asked again
userdb {{
  driver = prefetch
}}
userdb {{
  driver = sql
  args = {dir}/sql.conf
}}
mail_location = maildir:~/Maildir
pop3_uidl_format = %08Xv%08Xu
# mailhaul says who its client is
login_trusted_networks = 127.0.0.1
# a login costs no process: they serve one client after the other
service imap {{
  service_count = 1000
}}
service pop3 {{
  service_count = 1000
}}
# nobody asks for statistics, and each login would send some
stats_writer_socket_path =
namespace inbox {{
  inbox = yes
  prefix =
  separator = /
{special}
}}
"""

FURTHER = """\
passdb {{
  driver = sql
  args = {dir}/sql-{slot}.conf
}}
"""
SLOTS = (1, 2, 3, 4)

# LMTP and login see a user only once it lives here; doveadm always does. Who is
# locked gets mail but does not get in; %s is smtp where Postfix asks.
MAY = """\
active = 1 AND \\
    (CASE '%s' WHEN 'smtp' THEN can_submit WHEN 'submission' THEN can_submit \\
      ELSE can_login END = 1 OR '%{{master_user}}' <> '')"""
SQL = """\
driver = sqlite
connect = {auth_db}
password_query = \\
  SELECT username AS user, password, \\
    home AS userdb_home, mail AS userdb_mail, \\
    uid AS userdb_uid, gid AS userdb_gid, \\
    prefix AS "userdb_namespace/inbox/prefix", \\
    separator AS "userdb_namespace/inbox/separator" \\
  FROM users \\
  WHERE username = '%Lu' AND """ + MAY + """
user_query = \\
  SELECT home, mail, uid, gid, \\
    prefix AS "namespace/inbox/prefix", \\
    separator AS "namespace/inbox/separator" \\
  FROM users \\
  WHERE username = '%Lu' AND (active = 1 OR '%s' = 'doveadm')
"""

# One file for each further password of a user.
SLOT_SQL = """\
driver = sqlite
connect = {auth_db}
password_query = \\
  SELECT username AS user, passwords.password AS password \\
  FROM users JOIN passwords USING (username) \\
  WHERE username = '%Lu' AND slot = {slot} AND """ + MAY + """
"""

SPECIAL = """\
  mailbox Drafts {
    special_use = \\Drafts
  }
  mailbox Sent {
    special_use = \\Sent
  }
  mailbox Trash {
    special_use = \\Trash
  }"""


class Dovecot:
    """name is "legacy" or "local"; ports by the names imap, imaps, pop3,
    pop3s, lmtp."""

    def __init__(self, name, folder, ca, ports, settings):
        self.name, self.folder, self.ca = name, folder, ca
        self.ports, self.settings = ports, settings
        self.conf = folder / "dovecot.conf"

    def configure(self):
        s = self.settings
        self.folder.mkdir(parents=True, exist_ok=True)
        words = dict(
            dir=self.folder, ca=self.ca, name=self.name, domain=s.domain,
            owner=s.owner, failure_delay=s.auth_failure_delay,
            fsync="never" if self.name == "legacy" else "optimized",
            special=SPECIAL, **self.ports)
        if self.name == "legacy":
            self._make_mail()
            accounts = LEGACY.format(
                prefix="INBOX." if s.legacy_prefix else "",
                separator="." if s.legacy_prefix else "/", **words)
            accounts += s.legacy_conf
        else:
            further = "".join(FURTHER.format(dir=self.folder, slot=n)
                              for n in SLOTS)
            accounts = LOCAL.format(further=further, **words) + s.local_conf
            self._write("sql.conf", SQL.format(auth_db=s.auth_db))
            for n in SLOTS:
                self._write(f"sql-{n}.conf",
                            SLOT_SQL.format(auth_db=s.auth_db, slot=n))
            self._write_masters(s.master_password)
        self._write("dovecot.conf", COMMON.format(accounts=accounts, **words))

    def _write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o644)

    def _write_masters(self, password):
        digest = hashlib.sha256(password.encode()).hexdigest()
        self._write("masters", f"mailhaul:{{SHA256.HEX}}{digest}\n")

    def _make_mail(self):
        mail = self.folder / "mail"
        mail.mkdir(exist_ok=True)
        if os.getuid() == 0:
            owner = pwd.getpwnam(self.settings.owner)
            os.chown(mail, owner.pw_uid, owner.pw_gid)
        users = self.folder / "users"
        self._write("masters", "boss:{PLAIN}pw-boss\n")
        if not (self.folder / "app-users").exists():
            self._write("app-users", "")
        if not users.exists():
            users.write_text("".join(
                f"{user}@{self.settings.domain}:{{PLAIN}}{password}::::::\n"
                for user, password in self.settings.users().items()))
            users.chmod(0o644)

    def start(self):
        """The master's pid. Says what Dovecot said if it does not start."""
        # what a killed one left: its sockets would look like a running one
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        (self.folder / "run").mkdir()
        daemonize(["dovecot", "-c", str(self.conf)])
        return pid_from_file(self.folder / "run" / "master.pid")

    def doveadm(self, *args, **kwargs):
        return subprocess.run(["doveadm", "-c", str(self.conf), *args],
                              check=True, capture_output=True, text=True,
                              **kwargs).stdout
