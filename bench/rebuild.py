"""The work `rebuild`: a control db of a million accounts lost, put back and
rebuilt; every row is compared with what the witnesses said.

Generated are the witness journal (with accounts that went back), auth.db and a
backup in which nobody has moved yet.
"""

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

CONFIG = """\
node: mx.test
state_dir: {dir}/state
roles: [state]
log: {{level: info, to: stderr}}
store: {{type: maildir, path: "{dir}/mail/{{domain}}/{{local}}/Maildir"}}
provision: {{dovecot: dovecot/auth.db}}
secrets: {{key: {dir}/keys/mailhaul.key}}
"""
HASH = "{SHA512-CRYPT}$6$saltsaltsaltsalt$" + "h" * 86


def fnv(text):
    value = 14695981039346656037
    for byte in text.encode():
        value = (value ^ byte) * 1099511628211 & 0xffffffffffffffff
    return value


def line(generation, epoch, route, address):
    text = (f"w1 {generation} {generation} {epoch} {route} 1700000000000"
            f" ={address} ={address} =INBOX. =.")
    return f"{text} {fnv(text):016x}\n"


@contextlib.contextmanager
def opened(path):
    """Closed with nothing left in its WAL."""
    db = sqlite3.connect(path)
    # addresses come in no order: without this every page is written many times
    db.execute("pragma cache_size = -1500000")
    try:
        yield db
        db.commit()
        db.execute("pragma wal_checkpoint(truncate)").fetchall()
    finally:
        db.close()


class Node:
    def __init__(self, binaries, accounts):
        self.bin = binaries
        self.dir = Path(tempfile.mkdtemp(prefix="mh-rebuild-", dir="/tmp"))
        self.conf = self.dir / "mailhaul.yaml"
        self.conf.write_text(CONFIG.format(dir=self.dir))
        self.control = self.dir / "state" / "control.db"
        self.auth = self.dir / "state" / "dovecot" / "auth.db"
        self.expected = {}
        self.cli("init")
        for n in range(10):
            self.cli("domain", "add", f"d{n}.test", "--imap",
                     "imap://127.0.0.1:1")
        self.generate(accounts)

    def cli(self, *args, status=0):
        done = subprocess.run([self.bin / "mailhaul", "-c", self.conf,
                               "--json", *args], capture_output=True,
                              text=True)
        if done.returncode != status:
            raise SystemExit(f"{args}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def generate(self, accounts):
        """19 of 20 have moved, one in 50 of these went back."""
        order = random.Random(1).sample(range(accounts), accounts)
        folder = self.dir / "mail" / ".mailhaul"
        folder.mkdir(parents=True)
        generation = 0
        with open(folder / "witness", "w") as journal:
            for i in order:
                address = f"user{i}@d{i % 10}.test"
                if i % 20 == 0:
                    continue
                generation += 1
                self.expected[address] = ("local", 3, generation)
                journal.write(line(generation, 3, "local", address))
                if i % 50 == 1:
                    generation += 1
                    self.expected[address] = ("legacy", 5, generation)
                    journal.write(line(generation, 5, "legacy", address))
        with opened(self.auth) as auth:
            auth.executemany(
                "insert into users (username, password, active, epoch)"
                " values (?, ?, ?, ?)",
                ((address, HASH, int(route == "local"), epoch)
                 for address, (route, epoch, _) in self.expected.items()))
        self.backup(accounts)

    def backup(self, accounts):
        with opened(self.control) as db:
            db.executemany(
                "insert into accounts (domain_id, address, legacy_user, route,"
                " copy, epoch, created_at, updated_at) values"
                " ((select id from domains where name = ?), ?, ?, 'legacy',"
                " 'delta', 1, 1, 1)",
                ((f"d{i % 10}.test", f"user{i}@d{i % 10}.test",
                  f"user{i}@d{i % 10}.test") for i in range(accounts)))

    def compare(self, accounts):
        """Rows that are not as the last witness said; those that never moved
        are legacy's, or not there."""
        wrong = seen = 0
        with opened(self.control) as db:
            for address, route, epoch, generation, told in db.execute(
                    "select address, route, epoch, generation,"
                    " provisioned_epoch from accounts"):
                want = self.expected.get(address)
                seen += want is not None
                if want is None:
                    wrong += route != "legacy"
                else:
                    wrong += ((route, epoch, generation) != want
                              or (route == "local" and told != epoch))
        return wrong + len(self.expected) - seen


def timed(fn):
    began = time.monotonic()
    result = fn()
    return result, round(time.monotonic() - began, 1)


def start_and_stop(node):
    """Seconds until state answers; a check and a backup beside it."""
    daemon = subprocess.Popen([node.bin / "mailhauld", "-c", node.conf,
                               "--foreground"], stderr=subprocess.DEVNULL)
    try:
        began = time.monotonic()
        while not (node.dir / "state" / "control.sock").exists():
            time.sleep(0.01)
        node.cli("account", "show", "user1@d1.test")
        up = round(time.monotonic() - began, 1)
        copy = node.dir / "copy.db"
        _, backup = timed(lambda: node.cli("db", "backup", str(copy)))
        copy.unlink()
        _, check = timed(lambda: node.cli("db", "check"))
        return {"start_s": up, "backup_s": backup, "check_s": check}
    finally:
        daemon.terminate()
        daemon.wait()


def work(binaries, accounts):
    node = Node(binaries, accounts)
    kept = node.control.with_name("kept.db")
    os.rename(node.control, kept)
    result = {}
    rebuilt, seconds = timed(lambda: node.cli("db", "rebuild", "--from",
                                              str(kept)))
    wrong = node.compare(accounts)
    result["with a backup"] = {
        "rebuild_s": seconds, "changed": rebuilt["changed"], "wrong": wrong,
        **start_and_stop(node)}
    # without one the domains are all that is known
    with opened(kept) as db:
        db.execute("delete from accounts")
    node.control.unlink()
    rebuilt, seconds = timed(lambda: node.cli("db", "rebuild", "--from",
                                              str(kept)))
    result["without"] = {"rebuild_s": seconds, "added": rebuilt["added"],
                         "wrong": node.compare(accounts)}
    subprocess.run(["rm", "-rf", str(node.dir)], check=True)
    return result
