"""The works about copying: every tool brings the same mailbox of one legacy
Dovecot into a Maildir of its own."""

import imaplib
import json
import os
import pwd
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("BIN") or TOP / "build" / "release")
ROUNDS = int(os.environ.get("ROUNDS", "3"))
FLIPS = 3
DOMAIN = "example.test"
METRICS = ("wall_s", "cpu_s", "rss_mb", "wire_mb")
MANY = 100  # mailboxes of copy-many
DELAY_MS = 20  # one way, of copy-rtt
# messages, bytes in all
SIZES = {"small": (5000, 31_000_000), "large": (20000, 1_200_000_000),
         "tiny": (100_000, 60_000_000), "box": (200, 1_300_000)}
FOLDERS = ["", ".Archive", ".Archive.2019", ".Archive.2020", ".Archive.2021",
           ".Drafts", ".Lists", ".Lists.kernel", ".Projects",
           ".Projects.bridge", ".Sent", ".Trash"]
TOOLS = os.environ.get("TOOLS", "mailhaul mbsync dsync floor drain").split()
PEERS = [tool for tool in TOOLS if tool not in ("floor", "drain")]


def say(text):
    print(text, file=sys.stderr, flush=True)


class Legacy:
    """The servers of scripts/dev-up with generated mailboxes on legacy."""

    def __init__(self, *options, users=len(SIZES) + FLIPS + 1):
        self.dir = Path(tempfile.mkdtemp(prefix="mh-bench-", dir="/tmp"))
        self.dir.chmod(0o755)
        self.world = self.dir / "w"
        subprocess.run([TOP / "scripts" / "dev-up", self.world,
                        "--more-users", str(users), *options],
                       check=True, stdout=subprocess.DEVNULL)
        lines = (self.world / "env").read_text().splitlines()
        self.env = {k: v.strip("'") for k, v in
                    (line.split("=", 1) for line in lines)}
        self.owner = pwd.getpwnam("mail")

    @property
    def ca_file(self):
        return self.world / "ca" / "ca.pem"

    def maildir(self, user):
        return self.world / "legacy" / "mail" / f"{user}@{DOMAIN}" / "Maildir"

    def settle(self, user):
        """Hand the mailbox to its owner and let Dovecot index it once."""
        home = self.maildir(user).parent
        subprocess.run(["chown", "-R", "mail:mail", home], check=True)
        subprocess.run(["doveadm", "-c", self.env["LEGACY_DOVECOT_CONF"],
                        "index", "-u", f"{user}@{DOMAIN}", "*"], check=True)

    def fill(self, user, count, total, folders=tuple(FOLDERS)):
        """The same mail for the same numbers: sizes are log-normal."""
        chance = random.Random(count)
        root = self.maildir(user)
        sizes = [chance.lognormvariate(0, 1.2) for _ in range(count)]
        scale = total / sum(sizes)
        text = "".join(chance.choice("abcdefghij klmnop") for _ in range(70))
        body = (text + "\n") * (64_000_000 // 71)
        for folder in folders:
            for part in ("cur", "new", "tmp"):
                (root / folder / part).mkdir(parents=True, exist_ok=True)
        for number, size in enumerate(sizes):
            folder = folders[min(number % 24, len(folders) - 1)
                             if number % 24 < 12 else 0]
            head = (f"From: sender{number % 97}@example.net\n"
                    f"To: {user}@{DOMAIN}\nSubject: message {number}\n"
                    f"Message-ID: <{number}.{count}@example.net>\n"
                    f"Date: Mon, 02 Jan 2023 10:00:00 +0000\n\n")
            path = (root / folder / "cur" /
                    f"{1500000000 + number * 9000}.M{number}.bench:2,"
                    f"{chance.choice(['S', 'S', 'RS', 'FS', ''])}")
            path.write_text(head + body[:max(0, int(size * scale) - 200)])
            os.utime(path, (1500000000 + number * 9000,) * 2)
        self.settle(user)

    def clone(self, user, other):
        subprocess.run(["cp", "-al", self.maildir(user).parent,
                        self.maildir(other).parent], check=True)
        for path in self.maildir(other).rglob("dovecot*"):
            path.unlink()
        self.settle(other)

    def imap(self, user):
        client = imaplib.IMAP4("127.0.0.1", int(self.env["LEGACY_IMAP_PORT"]))
        client.login(f"{user}@{DOMAIN}", f"pw-{user}")
        return client

    def down(self):
        subprocess.run([TOP / "scripts" / "dev-down", self.world], check=False,
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


def wire_bytes():
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split()[1])
    return 0


def measure(argv):
    """Run argv; its metrics. wire_mb counts all of loopback meanwhile."""
    wire = wire_bytes()
    with tempfile.NamedTemporaryFile("r") as result:
        os.chmod(result.name, 0o666)
        # as the mail's owner: doveadm touches no mail as root
        done = subprocess.run(
            [TOP / "build" / "measure", result.name, *map(str, argv)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, user="mail", group="mail",
            extra_groups=[])
        wall, cpu, peak_kb, code = result.read().split()
    if done.returncode != 0 or code != "0":
        say(done.stdout.decode(errors="replace")[-2000:])
        raise SystemExit(f"bench: {argv[0]} ended with {code}")
    return {"wall_s": float(wall), "cpu_s": float(cpu),
            "rss_mb": int(peak_kb) / 1024,
            "wire_mb": (wire_bytes() - wire) / 1e6}


class Copier:
    """One tool copying one user into a Maildir of its own."""

    def __init__(self, tool, legacy, user, tls=False, port=None):
        self.tool, self.legacy, self.user = tool, legacy, user
        self.tls = tls
        self.root = legacy.dir / f"{tool}-{user}"
        self.port = port or legacy.env[
            "LEGACY_IMAPS_PORT" if tls else "LEGACY_IMAP_PORT"]

    def clear(self):
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        shutil.chown(self.root, "mail", "mail")
        os.sync()

    def argv(self, kind):
        return getattr(self, "_" + self.tool)(kind)

    def _mailhaul(self, kind):
        job = {"id": 1, "account_id": 1, "epoch": 1, "kind": kind,
               "address": f"{self.user}@{DOMAIN}",
               "legacy_user": f"{self.user}@{DOMAIN}",
               "password": f"pw-{self.user}",
               "legacy_imap": f"imap{'s' * self.tls}://localhost:{self.port}",
               "ca_file": str(self.legacy.ca_file),
               "maildir": str(self.root / "Maildir"),
               "ledger_dir": str(self.root / "ledger")}
        path = self.root / "job.json"
        path.write_text(json.dumps(job))
        return [BIN / "mailhaul-worker", "--job", path]

    def _mbsync(self, _kind):
        conf = self.root / "mbsyncrc"
        tls = (f"SSLType IMAPS\nCertificateFile {self.legacy.ca_file}\n"
               if self.tls else "SSLType None\n")
        conf.write_text(
            f"IMAPStore legacy\nHost localhost\nPort {self.port}\n"
            f"User {self.user}@{DOMAIN}\nPass pw-{self.user}\n"
            f"{tls}AuthMechs LOGIN\n\n"
            f"MaildirStore here\nPath {self.root}/m/\n"
            f"Inbox {self.root}/m/INBOX\nSubFolders Verbatim\n\n"
            "Channel all\nFar :legacy:\nNear :here:\nPatterns *\n"
            "Create Near\nSync Pull\nExpunge Near\nCopyArrivalDate yes\n"
            f"SyncState {self.root}/state/\n")
        for folder in (self.root / "m", self.root / "state"):
            folder.mkdir(exist_ok=True)
            shutil.chown(folder, "mail", "mail")
        return ["mbsync", "-q", "-c", conf, "all"]

    def _dsync(self, _kind):
        conf = self.root / "dovecot.conf"
        # its DNS client needs a running Dovecot, so no name to verify
        tls = "imapc_ssl = imaps\nimapc_ssl_verify = no\n" * self.tls
        if not conf.exists():
            (self.root / "run").mkdir()
            shutil.chown(self.root / "run", "mail", "mail")
            conf.write_text(
                f"base_dir = {self.root}/run\nssl = no\n"
                f"log_path = /dev/stderr\nmail_location = "
                f"maildir:{self.root}/Maildir\nmail_home = {self.root}\n"
                "mail_uid = mail\nmail_gid = mail\n"
                "first_valid_uid = 1\nfirst_valid_gid = 1\n"
                "namespace inbox {\n inbox = yes\n"
                " separator = /\n}\nimapc_features = rfc822.size fetch-headers\n"
                f"imapc_host = 127.0.0.1\nimapc_port = {self.port}\n"
                f"imapc_user = {self.user}@{DOMAIN}\n{tls}"
                f"imapc_password = pw-{self.user}\nmail_prefetch_count = 20\n")
        return ["env", f"USER={self.user}", f"HOME={self.root}", "doveadm",
                "-c", conf, "backup", "-R", "imapc:"]

    def _floor(self, _kind, target=None):
        return [TOP / "build" / "floor", "127.0.0.1", self.port,
                f"{self.user}@{DOMAIN}", f"pw-{self.user}",
                target or self.root / "files", *(["tls"] * self.tls)]

    def _drain(self, kind):
        return self._floor(kind, "-")


def rounds(copiers, prepare, kind):
    """{tool: {metric: median}} of ROUNDS alternating runs."""
    seen = {c.tool: [] for c in copiers}
    for number in range(ROUNDS):
        for copier in copiers:
            prepare(copier)
            seen[copier.tool].append(measure(copier.argv(kind)))
            say(f"  {number + 1}/{ROUNDS} {copier.tool:9} "
                f"{seen[copier.tool][-1]['wall_s']:.3f} s")
    return medians(seen)


def medians(seen):
    return {tool: {m: round(statistics.median(r[m] for r in runs), 4)
                   for m in METRICS} for tool, runs in seen.items()}


def begin(name, size, folders=tuple(FOLDERS)):
    """A Legacy with that mailbox as alice's."""
    legacy = Legacy()
    say(f"{name}: {SIZES[size][0]} messages, {SIZES[size][1] / 1e6:.0f} MB")
    try:
        legacy.fill("alice", *SIZES[size], folders)
    except BaseException:
        legacy.down()
        raise
    return legacy


def first(size, tls=False):
    """A first copy."""
    one_folder = size == "tiny"
    legacy = begin(f"copy-{size}{'-tls' * tls}", size,
                   ("",) if one_folder else tuple(FOLDERS))
    try:
        return rounds([Copier(t, legacy, "alice", tls) for t in TOOLS],
                      Copier.clear, "initial")
    finally:
        legacy.down()


def copied(legacy, user):
    """Copiers that have been there twice already."""
    copiers = [Copier(tool, legacy, user) for tool in PEERS]
    for copier in copiers:
        copier.clear()
        measure(copier.argv("initial"))
        measure(copier.argv("delta"))
    return copiers


def none(size):
    """A repeat with nothing changed."""
    legacy = begin(f"copy-none of {size}", size, tuple(FOLDERS[:6]))
    try:
        return rounds(copied(legacy, "alice"), lambda c: None, "delta")
    finally:
        legacy.down()


def change(legacy, user):
    """10 new messages, 10 flags, 5 deleted."""
    client = legacy.imap(user)
    for number in range(10):
        text = f"Subject: new {number}\r\n\r\n{'x' * 3000}\r\n".encode()
        assert client.append("INBOX", None, None, text)[0] == "OK"
    client.select("INBOX")
    uids = client.uid("SEARCH", "ALL")[1][0].decode().split()
    step = len(uids) // 40
    flagged, gone = uids[step:11 * step:step], uids[-5 * step::step][:5]
    client.uid("STORE", ",".join(flagged), "+FLAGS", "(\\Flagged)")
    client.uid("STORE", ",".join(gone), "+FLAGS", "(\\Deleted)")
    client.expunge()
    client.logout()


def delta():
    """25 changes among 100,000 messages."""
    legacy = begin("copy-delta", "tiny", tuple(FOLDERS[:6]))
    seen = {tool: [] for tool in PEERS}
    try:
        copiers = copied(legacy, "alice")
        for number in range(ROUNDS):
            change(legacy, "alice")
            for copier in copiers:
                seen[copier.tool].append(measure(copier.argv("delta")))
                say(f"  {number + 1}/{ROUNDS} {copier.tool:9} "
                    f"{seen[copier.tool][-1]['wall_s']:.3f} s")
        return medians(seen)
    finally:
        legacy.down()


def rtt():
    """A first copy with a delay between; without it beside."""
    legacy = begin("copy-rtt", "small")
    delay = subprocess.Popen(
        [sys.executable, TOP / "bench" / "delay.py",
         legacy.env["LEGACY_IMAP_PORT"], str(DELAY_MS)],
        stdout=subprocess.PIPE, text=True)
    try:
        port = delay.stdout.readline().strip()
        near = rounds([Copier("mailhaul", legacy, "alice")], Copier.clear,
                      "initial")
        far = rounds([Copier(tool, legacy, "alice", port=port)
                      for tool in PEERS + ["drain"]], Copier.clear, "initial")
        return {**far, "without delay": near["mailhaul"]}
    finally:
        delay.terminate()
        delay.wait()
        legacy.down()


def many():
    """A hundred mailboxes, two at a time."""
    legacy = Legacy(users=MANY)
    seen = {tool: [] for tool in PEERS}
    try:
        say(f"copy-many: {MANY} mailboxes of {SIZES['box'][0]} messages")
        legacy.fill("user001", *SIZES["box"])
        users = [f"user{n:03}" for n in range(1, MANY + 1)]
        for user in users[1:]:
            legacy.clone("user001", user)
        for number in range(ROUNDS):
            for tool in PEERS:
                copiers = [Copier(tool, legacy, user) for user in users]
                for copier in copiers:
                    copier.clear()
                lines = [" ".join(f"'{word}'" for word in map(
                    str, copier.argv("initial"))) for copier in copiers]
                listing = legacy.dir / "commands"
                listing.write_text("\n".join(lines) + "\n")
                seen[tool].append(measure(
                    ["sh", "-c", f"xargs -P 2 -d '\\n' -n 1 sh -c <{listing}"
                                 " >/dev/null"]))
                say(f"  {number + 1}/{ROUNDS} {tool:9} "
                    f"{seen[tool][-1]['wall_s']:.3f} s")
        return medians(seen)
    finally:
        legacy.down()


WORKS = {"copy-small": lambda: first("small"),
         "copy-large": lambda: first("large"),
         "copy-large-tls": lambda: first("large", tls=True),
         "copy-tiny": lambda: first("tiny"),
         "copy-none": lambda: none("large"),
         "copy-none-tiny": lambda: none("tiny"),
         "copy-delta": delta, "copy-rtt": rtt, "copy-many": many}
