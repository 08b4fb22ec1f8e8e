"""The control db lost, damaged, or put back from an old copy: nobody is served
by the wrong side, and `db rebuild` brings back what the store tells of. The
roles are those of test_state.py, that only pretend to be."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

from lib.small_disk import SmallDisk
from lib.waiting import wait_until
from test_state import BUILD, Daemon, Jobs, Login, Smtp

CLEAN = {"is_verified": True, "is_local_ready": True}


class Node(Daemon):
    """A daemon with its fake roles, and an account flipped in a moment."""

    def __init__(self, folder):
        super().__init__(folder)
        self.cli("domain", "add", "a.test", "--imap", "imap://127.0.0.1:1",
                 "--smtp", "smtp://127.0.0.1:3", "--hold-seconds", "6",
                 "--username", "{local}")
        self.journal = folder / "mail" / ".mailhaul" / "witness"
        self.auth = self.state / "dovecot" / "auth.db"
        self.begin()

    def begin(self):
        self.start()
        self.roles()
        self.login.asked("nobody@a.test")  # state is up

    def roles(self):
        self.login, self.smtp = Login(self, 900001), Smtp(self, 900002)
        self.jobs = Jobs(self)

    def end(self):
        for peer in (self.login, self.smtp, self.jobs):
            peer.close()
        self.stop()

    def learn(self, name):
        self.login.expect("answer", id=self.login.learn(name))
        self.jobs.done(self.jobs.take("hash"), hash="{SHA512-CRYPT}$6$x$y")
        self.jobs.done(self.jobs.take("initial"), folders=2, messages=3)

    def hold(self, name):
        self.learn(name)
        self.jobs.done(self.jobs.take("delta"), folders=2, messages=3,
                       **CLEAN)
        for peer in (self.login, self.smtp):
            peer.quiet(peer.expect("hold", wait=20))
        job = self.jobs.take("final")
        assert job["address"] == name
        return job

    def flip(self, name):
        self.jobs.done(self.hold(name), folders=2, messages=3, **CLEAN)
        return self.wait_for(name, route="local", provisioned=True)

    def answers(self, name):
        return [self.login.asked(name)["answer"],
                self.smtp.asked(name, "mail")["answer"]]

    def copy_of(self, *names):
        """What a backup of these would hold now."""
        kept = self.folder / f"kept-{time.monotonic_ns()}"
        kept.mkdir()
        for name in names:
            with sqlite3.connect(name) as db:
                db.execute("vacuum into ?", (str(kept / name.name),))
        return kept

    def put_back(self, kept):
        for path in (self.state / "control.db", self.auth):
            if (kept / path.name).exists():
                for end in ("-wal", "-shm"):
                    path.with_name(path.name + end).unlink(missing_ok=True)
                shutil.copyfile(kept / path.name, path)

    def lose(self):
        for end in ("", "-wal", "-shm"):
            (self.state / f"control.db{end}").unlink(missing_ok=True)

    def text(self):
        return (self.folder / "log").read_text()

    def rows(self):
        return {a["address"]: a
                for a in self.cli("account", "list")["accounts"]}


@pytest.fixture
def node(tmp_path):
    n = Node(tmp_path)
    yield n
    n.stop()
    assert "AddressSanitizer" not in n.text()


LOCAL = ["local", "local"]
NOBODY = ["unavailable", "unavailable"]


def control(node):
    return node.state / "control.db"


def test_flip_is_in_the_journal_before_local_is_told(node):
    shown = node.flip("u@a.test")
    line = node.journal.read_text().splitlines()[-1].split()
    assert line[:6] == ["w1", "1", "1", str(shown["epoch"]), "local",
                        str(shown["flipped_at"])]
    assert line[6:8] == ["=u@a.test", "=u@a.test"]
    assert oct(node.journal.stat().st_mode & 0o777) == "0o600"
    check = node.cli("db", "check")
    assert check["difference_count"] == check["fault_count"] == 0
    assert check["witnesses"]["records"] == 1
    assert node.cli("status")["refused"] == 0


@pytest.mark.parametrize("with_auth", [False, True])
@pytest.mark.parametrize("when", ["before", "learnt", "held"])
def test_old_copy_put_back_serves_nobody_wrongly(node, when, with_auth):
    """Of before the account was there, before it flipped, while it was held;
    with auth.db as it is, and with that put back too."""
    files = [control(node), node.auth] if with_auth else [control(node)]
    node.flip("stays@a.test")
    if when == "before":
        kept = node.copy_of(*files)
        node.flip("u@a.test")
    elif when == "learnt":
        node.learn("u@a.test")
        kept = node.copy_of(*files)
        node.jobs.done(node.jobs.take("delta"), **CLEAN)
        for peer in (node.login, node.smtp):
            peer.quiet(peer.expect("hold", wait=20))
        node.jobs.done(node.jobs.take("final"), **CLEAN)
    else:
        job = node.hold("u@a.test")
        kept = node.copy_of(*files)
        node.jobs.done(job, **CLEAN)
    node.wait_for("u@a.test", route="local", provisioned=True)
    node.end()
    node.put_back(kept)
    node.begin()
    assert node.answers("u@a.test") == NOBODY
    assert node.answers("stays@a.test") == LOCAL
    assert node.login.expect(
        "answer", id=node.login.learn("u@a.test"))["answer"] == "unavailable"
    assert node.cli("status")["refused"] == 1
    assert "account u@a.test refused" in node.text()
    node.jobs.send(m="lease", free=4, urgent=4)  # nothing of his is copied
    with pytest.raises(TimeoutError):
        while node.jobs.expect("job", 0.5)["address"] != "u@a.test":
            pass
    node.cli("db", "check", status=1)
    # and no command moves him by his old row
    if when != "before":
        for command in (["cutover"], ["rollback"], ["account", "lock", "--all"],
                        ["account", "pause"], ["account", "remove"],
                        ["verify"], ["migrate"]):
            said = node.cli(*command, "u@a.test", status=1)
            assert "older copy" in str(said), command
        assert node.cli("account", "show", "u@a.test")["address"]
    # what the db learns from now on has later generations
    node.flip("later@a.test")
    node.kill_state()
    node.roles()
    assert node.answers("u@a.test") == NOBODY
    assert node.answers("later@a.test") == LOCAL
    node.end()
    node.cli("db", "check", "--repair", status=0)
    node.begin()
    assert node.rows()["u@a.test"]["epoch"] == 3
    if with_auth:  # its hash is gone with auth.db
        assert node.answers("u@a.test") in (LOCAL, NOBODY)
    else:
        assert node.answers("u@a.test") == LOCAL


def test_lost_db_is_rebuilt_from_the_witnesses(node):
    for name in ("u@a.test", "v@a.test"):
        node.flip(name)
    node.learn("w@a.test")
    node.cli("domain", "set", "a.test", "--hold-seconds", "7")
    wait_until(lambda: '"hold_seconds":7' in node.journal.read_text(), 20)
    was = {name: node.show(name) for name in node.rows()}
    node.end()
    node.lose()
    result = node.cli("db", "rebuild")
    assert (result["records"], result["added"], result["local"]) == (2, 2, 2)
    assert result["without_password"] == 0 and result["without_seal"] == 2
    node.begin()
    assert node.cli("domain", "show", "a.test")["hold_seconds"] == 7
    assert set(node.rows()) == {"u@a.test", "v@a.test"}
    for name in ("u@a.test", "v@a.test"):
        row = node.show(name)
        assert node.answers(name) == LOCAL and row["provisioned"]
        for field in ("epoch", "legacy_user", "flipped_at"):
            assert row[field] == was[name][field]
    # who had not moved is learnt again
    assert node.answers("w@a.test") == ["prove", "pass"]
    node.flip("w@a.test")
    assert node.cli("db", "check")["difference_count"] == 0


def test_backup_brings_back_who_had_not_moved(node, tmp_path):
    node.flip("u@a.test")
    node.learn("v@a.test")
    node.learn("w@a.test")
    done = node.cli("db", "backup", str(tmp_path))
    assert done["accounts"] == 3 and done["generation"] == 1
    assert os.path.isfile(done["key"])
    assert oct(os.stat(done["file"]).st_mode & 0o777) == "0o600"
    assert not list(tmp_path.glob("*.part*"))
    for _ in range(2):  # v and w may come in either order
        node.jobs.done(node.jobs.take("delta"), **CLEAN)
    for _ in range(2):
        for peer in (node.login, node.smtp):
            peer.quiet(peer.expect("hold", wait=20))
    node.jobs.done(node.jobs.take("final"), **CLEAN)
    node.jobs.done(node.jobs.take("final"), **CLEAN)
    node.wait_for("v@a.test", route="local", provisioned=True)
    node.wait_for("w@a.test", route="local", provisioned=True)
    node.learn("x@a.test")
    node.end()
    node.lose()
    result = node.cli("db", "rebuild", "--from", done["file"])
    assert (result["changed"], result["added"]) == (2, 0)
    assert result["without_seal"] == 0  # their trails go on
    node.begin()
    for name in ("u@a.test", "v@a.test", "w@a.test"):
        assert node.answers(name) == LOCAL
    assert node.answers("x@a.test") == ["prove", "pass"]
    trails = {node.jobs.take("trail")["address"] for _ in range(3)}
    assert trails == {"u@a.test", "v@a.test", "w@a.test"}
    node.end()
    assert node.cli("db", "check")["difference_count"] == 0


@pytest.mark.parametrize("when", ["flipped", "learnt", "none"])
def test_password_and_lock_set_since_the_backup_stay(node, tmp_path, when):
    """The backup is of before the flip, of after it, or there is none: what a
    thief knows does not come back, and legacy is not asked about it."""
    kept = []
    if when == "learnt":
        node.learn("u@a.test")
        kept = ["--from", node.cli("db", "backup", str(tmp_path))["file"]]
        node.jobs.done(node.jobs.take("delta"), **CLEAN)
        for peer in (node.login, node.smtp):
            peer.quiet(peer.expect("hold", wait=20))
        node.jobs.done(node.jobs.take("final"), **CLEAN)
    else:
        node.flip("u@a.test")
    node.wait_for("u@a.test", route="local", provisioned=True)
    if when == "flipped":
        kept = ["--from", node.cli("db", "backup", str(tmp_path))["file"]]
    set_password(node, "u@a.test", "{SHA512-CRYPT}$6$new$hash")
    node.cli("account", "lock", "u@a.test", "--submission")
    was = node.wait_for("u@a.test", provisioned=True)
    told = hashes_of(node, "u@a.test")
    assert told == [None, "{SHA512-CRYPT}$6$new$hash"]
    node.end()
    node.lose()
    assert node.cli("db", "rebuild", *kept)["without_password"] == 0
    node.begin()
    row = node.wait_for("u@a.test", route="local", provisioned=True)
    assert row["local_password_at"] == was["local_password_at"]
    assert row["submission_locked"] and not row["login_locked"]
    assert [c["origin"] for c in row["credentials"] if c["hashed"]] == ["local"]
    node.cli("account", "unlock", "u@a.test")  # writes auth.db from the row
    wait_until(lambda: not node.show("u@a.test")["submission_locked"])
    assert hashes_of(node, "u@a.test") == told


def set_password(node, address, made):
    """`account password`, whose hash the jobs make."""
    asked = subprocess.Popen(
        [BUILD / "mailhaul", "-c", node.conf, "account", "password", address,
         "--file", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    asked.stdin.write(b"new\n")
    asked.stdin.close()
    node.jobs.done(node.jobs.take("hash"), hash=made)
    assert asked.wait(30) == 0


def hashes_of(node, address):
    with sqlite3.connect(node.auth) as auth:
        return [row[0] for row in auth.execute(
            "select password from users where username = ?1 union all "
            "select password from passwords where username = ?1",
            (address,))]


def test_the_audit_tells_of_a_rebuild(node, tmp_path):
    node.learn("u@a.test")
    kept = node.cli("db", "backup", str(tmp_path))["file"]
    node.jobs.done(node.jobs.take("delta"), **CLEAN)
    for peer in (node.login, node.smtp):
        peer.quiet(peer.expect("hold", wait=20))
    node.jobs.done(node.jobs.take("final"), **CLEAN)
    node.wait_for("u@a.test", route="local", provisioned=True)
    node.flip("v@a.test")
    node.end()
    node.lose()
    node.cli("db", "rebuild", "--from", kept, "--reason", "disk died")
    entries = node.cli("audit")["entries"][::-1]
    [change] = [e for e in entries if e["address"] == "u@a.test"
                and e["event"] == "rebuilt"]
    assert "route=legacy" in change["was"] and "epoch=1" in change["was"]
    assert "route=local" in change["became"] and "epoch=3" in change["became"]
    [came] = [e for e in entries if e["address"] == "v@a.test"]
    assert came["event"] == "rebuilt" and "route=local" in came["became"]
    [asked] = [e for e in entries if e["event"] == "db rebuild"]
    assert asked["actor"].startswith(f"uid {os.getuid()} (")
    assert asked["reason"] == "disk died"


def test_damaged_db_is_told_and_rebuilt(node):
    node.flip("u@a.test")
    node.end()
    path = control(node)
    with sqlite3.connect(path) as db:
        db.execute("pragma journal_mode = delete")
    with open(path, "r+b") as f:
        f.seek(0, os.SEEK_END)
        size = f.tell()
        for at in range(4096, size, 4096):
            f.seek(at)
            f.write(b"\xff" * 512)
    node.cli("db", "check", status=1)
    result = node.cli("db", "rebuild")
    assert result["added"] == 1 and os.path.exists(result["kept"])
    node.begin()
    assert node.answers("u@a.test") == LOCAL


def test_torn_and_missing_lines_send_it_to_the_mailboxes(node):
    node.flip("u@a.test")
    node.flip("v@a.test")
    node.end()
    maildir = node.folder / "mail" / "a.test" / "u" / "Maildir"
    maildir.mkdir(parents=True)
    lines = node.journal.read_text().splitlines(keepends=True)
    [mine] = [line for line in lines if "=u@a.test" in line]
    (maildir / "mailhaul-witness").write_text("3\n" + mine)
    node.journal.write_text("".join(
        line.replace("local", "legac") if line == mine else line
        for line in lines) + "w1 9 9 torn")
    node.lose()
    node.auth.unlink()
    result = node.cli("db", "rebuild")
    assert result["torn"] == 2 and result["missing_records"] == 1
    assert result["mailboxes_read"] == 1 and result["doubtful"] == 1
    node.begin()
    # handed over, and nothing proves the flip: nobody guesses
    assert node.answers("u@a.test") == NOBODY
    assert node.rows()["v@a.test"]["route"] == "local"
    node.end()
    (maildir / "dovecot.index").write_text("it was served")
    node.lose()
    assert node.cli("db", "rebuild")["doubtful"] == 0
    node.begin()
    assert node.rows()["u@a.test"]["route"] == "local"
    # the torn end does not swallow what comes
    node.flip("w@a.test")
    assert node.journal.read_text().splitlines()[-1].split()[6] == "=w@a.test"


def test_auth_db_that_knows_more_wins_and_is_listed(node):
    node.flip("u@a.test")
    node.end()
    node.journal.write_text("".join(
        line for line in node.journal.read_text().splitlines(keepends=True)
        if line.startswith("d1")))
    node.lose()
    result = node.cli("db", "rebuild")
    assert [c["address"] for c in result["contradictions"]] == ["u@a.test"]
    node.begin()
    assert node.answers("u@a.test") == LOCAL


def test_rebuild_names_the_domains_it_lacks(node):
    node.flip("u@a.test")
    node.end()
    node.journal.write_text("".join(
        line for line in node.journal.read_text().splitlines(keepends=True)
        if line.startswith("w1")))
    node.lose()
    said = node.cli("db", "rebuild", status=1)
    assert "a.test" in said["error"] and not control(node).exists()
    node.cli("init")
    node.cli("domain", "add", "a.test", "--imap", "imap://127.0.0.1:1")
    node.cli("db", "rebuild", "--from", str(control(node)))
    node.begin()
    assert node.answers("u@a.test") == LOCAL


def test_rebuild_waits_for_no_daemon_and_no_second_one(node):
    said = node.cli("db", "rebuild", status=1)
    assert "another process" in said["error"]
    node.end()
    node.begin()


def many(node, count):
    """Accounts flipped long ago, in journal and auth.db."""
    import random

    order = random.Random(1).sample(range(count), count)
    lines = []
    for generation, i in enumerate(order, 1):
        text = (f"w1 {generation} {generation} 3 local 1700000000000 "
                f"=m{i}@a.test =m{i} - -")
        lines.append(f"{text} {fnv(text):016x}\n")
    with open(node.journal, "a") as f:
        f.writelines(lines)
    with sqlite3.connect(node.auth) as auth:
        auth.executemany(
            "insert into users (username, password, active, epoch) values"
            " (?, '{SHA512-CRYPT}$6$x$y', 1, 3)",
            ((f"m{i}@a.test",) for i in range(count)))


def fnv(text):
    value = 14695981039346656037
    for byte in text.encode():
        value = (value ^ byte) * 1099511628211 & (1 << 64) - 1
    return value


def test_killed_rebuild_leaves_the_old_db_as_it_was(node):
    node.learn("u@a.test")
    node.end()
    many(node, 3000)
    before = sqlite3.connect(control(node)).execute(
        "select address, route, epoch from accounts").fetchall()
    for wait in (0.02, 0.06, 0.1, 0.15, 0.2, 0.3):
        child = subprocess.Popen(
            [BUILD / "mailhaul", "-c", node.conf, "db", "rebuild"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        child.wait()
        if not list(node.state.glob("control.db.old-*")):
            rows = sqlite3.connect(control(node)).execute(
                "select address, route, epoch from accounts").fetchall()
            assert rows == before
    result = node.cli("db", "rebuild")
    assert result["local"] == 3000
    node.begin()
    assert node.answers("m77@a.test") == LOCAL
    assert node.cli("status")["totals"]["route"]["local"] == 3000


def test_killed_backup_leaves_no_file_of_that_name(node, tmp_path):
    node.flip("u@a.test")
    target = tmp_path / "copy.db"
    for wait in (0.0, 0.01, 0.02, 0.04):
        child = subprocess.Popen(
            [BUILD / "mailhaul", "-c", node.conf, "db", "backup", target],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        child.wait()
        if target.exists():
            assert sqlite3.connect(target).execute(
                "pragma integrity_check").fetchone() == ("ok",)
            target.unlink()
    assert node.cli("db", "backup", str(target))["accounts"] == 1


def test_flip_waits_for_a_journal_that_cannot_be_written(node):
    """The store's disk is full: nobody is told of a flip that no witness
    keeps, and the flip is there as soon as there is room."""
    node.end()
    journal = node.journal.read_text()
    disk = SmallDisk(node.folder / "mail", 1)
    try:
        node.journal.parent.mkdir(mode=0o700)
        node.journal.write_text(journal)
        node.begin()
        node.flip("first@a.test")
        job = node.hold("u@a.test")
        # to the end of a page, which a full disk would still take
        with open(node.journal, "a") as f:
            f.write("#" * (-node.journal.stat().st_size % 4096 - 1) + "\n")
        disk.fill()
        node.jobs.done(job, **CLEAN)
        node.wait_for("u@a.test", route="local", provisioned=False)
        assert node.answers("u@a.test") == NOBODY
        assert "witness journal: No space left" in node.text()
        disk.empty()
        node.wait_for("u@a.test", provisioned=True)
        assert node.answers("u@a.test") == LOCAL
        node.end()
        assert node.cli("db", "check")["difference_count"] == 0
    finally:
        node.stop()
        disk.close()


def test_backup_to_a_full_disk_leaves_nothing(node, tmp_path):
    node.flip("u@a.test")
    folder = tmp_path / "small"
    folder.mkdir()
    disk = SmallDisk(folder, 1)
    try:
        disk.fill()
        node.cli("db", "backup", str(folder), status=1)
        assert [p.name for p in folder.iterdir()] == ["filler"]
        disk.empty()
        node.cli("db", "backup", str(folder))
    finally:
        disk.close()


def test_rebuild_on_a_full_disk_leaves_the_old_db(tmp_path):
    (tmp_path / "state").mkdir()
    disk = SmallDisk(tmp_path / "state", 8)
    try:
        node = Node(tmp_path)
        node.flip("u@a.test")
        node.end()
        many(node, 2000)
        before = control(node).read_bytes()
        disk.fill()
        node.cli("db", "rebuild", status=1)
        assert control(node).read_bytes() == before
        assert not list(node.state.glob("*.rebuild"))
        disk.empty()
        disk.resize(64)
        assert node.cli("db", "rebuild")["local"] == 2001
        node.begin()
        assert node.answers("u@a.test") == LOCAL
        node.end()
    finally:
        disk.close()


@pytest.mark.world(cutover="manual", delta_seconds=2)
def test_logins_and_mail_after_a_rebuild_on_real_servers(world):
    """Who had moved finds his mail on local and gets new mail there; who had
    not is served by legacy, learnt again and moved."""
    for user in ("alice", "bob"):
        world.fill(user, messages=12, folders=3, total=60_000)
        world.imap(user).logout()
        world.wait_account(user, copy="delta")
    world.mailhaul("cutover", world.address("alice"))
    world.wait_account("alice", route="local", provisioned=True)
    before = {"alice": world.snapshot("alice", "local"),
              "bob": world.snapshot("bob", "legacy")}
    world.stop("mailhauld")
    for database in world.folder.rglob("control.db*"):
        database.unlink()
    assert world.mailhaul("db", "rebuild")["local"] == 1
    world.run_node()
    assert world.account("alice")["route"] == "local"
    assert world.account("bob") is None
    assert world.snapshot("alice") == before["alice"]
    assert world.snapshot("bob") == before["bob"]
    for user in ("alice", "bob"):
        world.send(user)
    world.wait_account("bob", copy="delta", clean=True)
    world.mailhaul("cutover", world.address("bob"))
    world.wait_account("bob", route="local", provisioned=True)
    for user in ("alice", "bob"):
        with world.imap(user, "local") as imap:
            assert imap.select("INBOX")[0] == "OK"
            now = len(imap.search(None, "ALL")[1][0].split())
        assert now >= 2
    assert world.mailhaul("db", "check")["difference_count"] == 0
