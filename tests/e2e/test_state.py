"""The state process, spoken to by processes that only pretend to be login,
smtp and jobs: who is served by whom, the flip step by step, what a kill leaves
behind, and the administrator's commands."""

import base64
import hashlib
import json
import os
import pathlib
import signal
import socket
import sqlite3
import struct
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BIN", ROOT / "build" / "release"))
WAIT = 8.0

CONFIG = """\
node: mx.test
state_dir: {dir}/state
roles: [state]
log: {{level: debug, to: stderr}}
store: {{type: maildir, path: "{dir}/mail/{{domain}}/{{local}}/Maildir"}}
provision: {{dovecot: dovecot/auth.db}}
secrets: {{key: {dir}/keys/mailhaul.key}}
jobs: {{workers: 4, per_host: 8, delta_seconds: 1, retry_seconds: 1}}
"""


class Peer:
    """One connection: frames of a 4-byte length and a JSON object."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + WAIT
        while True:
            try:
                self.sock.connect(str(path))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.bytes = b""
        self.kept = []

    def send(self, **message):
        text = json.dumps(message).encode()
        self.sock.sendall(struct.pack(">I", len(text)) + text)

    def receive(self, wait=WAIT):
        self.sock.settimeout(wait)
        while True:
            if len(self.bytes) >= 4:
                size = struct.unpack(">I", self.bytes[:4])[0]
                if len(self.bytes) >= 4 + size:
                    text = self.bytes[4:4 + size]
                    self.bytes = self.bytes[4 + size:]
                    return json.loads(text)
            more = self.sock.recv(65536)
            if not more:
                raise EOFError
            self.bytes += more

    def expect(self, name, wait=WAIT, **fields):
        """The next message of that name with these fields; others are kept."""
        deadline = time.monotonic() + wait

        def fits(m):
            return m["m"] == name and all(m.get(k) == v
                                          for k, v in fields.items())

        for i, m in enumerate(self.kept):
            if fits(m):
                return self.kept.pop(i)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no {name} {fields}; kept {self.kept}")
            m = self.receive(left)
            if fits(m):
                return m
            self.kept.append(m)

    def silent(self, name, wait):
        try:
            self.expect(name, wait)
        except (TimeoutError, socket.timeout):
            return True
        return False

    def close(self):
        self.sock.close()


class Login(Peer):
    role = "login"

    def __init__(self, daemon, pid):
        super().__init__(daemon.state / "state.sock")
        self.ids = 0
        public = (daemon.state / "seal.pub").read_bytes()
        self.key = b"\2" + hashlib.sha256(public).digest()[:4] + bytes(92)
        self.send(m="hello", role=self.role, pid=pid)

    def ask(self, name, service="login"):
        self.ids += 1
        self.send(m="ask", id=self.ids, service=service, name=name)
        return self.ids

    def asked(self, name, service="login"):
        return self.expect("answer", id=self.ask(name, service))

    def learn(self, name):
        self.ids += 1
        self.send(m="learn", id=self.ids, name=name, legacy_user=name,
                  via="imap", prefix="", separator="/",
                  key=base64.b64encode(self.key).decode(),
                  blob=base64.b64encode(bytes(60)).decode())
        return self.ids

    def quiet(self, hold, trail=False):
        self.send(m="quiet", account=hold["account"], epoch=hold["epoch"],
                  trail=trail)


class Smtp(Login):
    role = "smtp"


class Jobs(Peer):
    def __init__(self, daemon, pid=900000):
        super().__init__(daemon.state / "state.sock")
        self.send(m="hello", role="jobs", pid=pid)

    def take(self, kind, wait=WAIT):
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            self.send(m="lease", free=1, urgent=1)
            try:
                return self.expect("job", 0.3, kind=kind)
            except (TimeoutError, socket.timeout):
                pass
        raise TimeoutError(f"no job {kind}; kept {self.kept}")

    def done(self, job, kind="none", text="", **report):
        came = {key: job[key] for key in ("credential", "of", "known")
                if key in job}
        self.send(m="done", job=job["job"], kind=kind, text=text, **came,
                  **report)

    def copy(self, messages=3):
        """Everything until the account could flip."""
        self.done(self.take("hash"), hash="{SHA512-CRYPT}$6$x$y")
        self.done(self.take("initial"), folders=2, messages=messages,
                  bytes=messages * 100, messages_total=messages,
                  bytes_total=messages * 100)
        return self.delta(messages)

    def delta(self, messages=3):
        job = self.take("delta")
        self.done(job, folders=2, messages=messages, bytes=messages * 100,
                  messages_total=messages, bytes_total=messages * 100,
                  is_verified=True, is_local_ready=True)
        return job


class Daemon:
    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "state"
        self.conf = folder / "mailhaul.yaml"
        self.conf.write_text(CONFIG.format(dir=folder))
        self.log = open(folder / "log", "a")
        self.process = None
        self.cli("init")

    def cli(self, *args, status=0, **kw):
        done = subprocess.run([BUILD / "mailhaul", "-c", self.conf, "--json",
                               *args], capture_output=True, text=True,
                              timeout=60, **kw)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def start(self):
        self.process = subprocess.Popen(
            [BUILD / "mailhauld", "-c", self.conf, "--foreground"],
            stdout=self.log, stderr=self.log)
        self.wait_for_socket()

    def wait_for_socket(self):
        """`status` would be answered without a daemon, too."""
        deadline = time.monotonic() + 2 * WAIT
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(self.state / "control.sock"))
                    return
                except OSError:
                    if time.monotonic() > deadline:
                        raise
            time.sleep(0.02)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(10) == 0
        self.process = None

    def state_pid(self):
        children = pathlib.Path(
            f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            for pid in children.read_text().split():
                try:
                    line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:  # gone meanwhile
                    continue
                if b"--role\0state" in line:  # not before it is exec'd
                    return int(pid)
            time.sleep(0.02)
        raise AssertionError("no state process")

    def kill_state(self):
        pid = self.state_pid()
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            try:
                if self.state_pid() != pid:
                    return
            except (AssertionError, FileNotFoundError):
                pass
            time.sleep(0.02)
        raise AssertionError("state was not started again")

    def show(self, address):
        return self.cli("account", "show", address)

    def wait_for(self, address, **fields):
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            seen = self.show(address)
            if all(seen[k] == v for k, v in fields.items()):
                return seen
            time.sleep(0.05)
        raise AssertionError(f"{fields} never came: {seen}")


@pytest.fixture
def daemon(tmp_path):
    d = Daemon(tmp_path)
    d.cli("domain", "add", "a.test", "--imap", "imap://127.0.0.1:1",
          "--pop3", "pop3://127.0.0.1:2", "--smtp", "smtp://127.0.0.1:3",
          "--hold-seconds", "6")
    d.start()
    yield d
    d.stop()
    assert "AddressSanitizer" not in (tmp_path / "log").read_text()


def flip_until_copying(daemon, login, jobs):
    """To the last delta's job; the hold and the job."""
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    hold = login.expect("hold")
    login.quiet(hold)
    return hold, jobs.take("final")


def test_two_first_logins_at_once_give_one_row(daemon):
    one, two = Login(daemon, 900001), Login(daemon, 900002)
    first, second = one.learn("u@a.test"), two.learn("U+tag@A.Test")
    a, b = one.expect("answer", id=first), two.expect("answer", id=second)
    assert a["account"] == b["account"] > 0
    assert a["answer"] == b["answer"] and "legacy" in a["answer"]
    assert len(daemon.cli("account", "list")["accounts"]) == 1
    shown = daemon.show("u@a.test")
    assert shown["route"] == "legacy" and shown["copy"] == "initial"
    assert shown["epoch"] == 1 and shown["password_state"] == "learnt"


def test_unknown_users_and_domains_are_told_apart(daemon):
    login = Login(daemon, 900001)
    known, unknown = login.asked("x@a.test"), login.asked("x@b.test")
    assert known["answer"] != unknown["answer"]
    assert known["imap"].startswith("imap://127.0.0.1:1")
    assert known["legacy_user"] == "x@a.test"
    assert "imap" not in unknown
    assert login.asked("../etc@a.test")["answer"] == unknown["answer"]
    assert daemon.cli("account", "list")["accounts"] == []


def test_name_without_a_domain_is_of_the_only_one(daemon):
    login = Login(daemon, 900001)
    login.expect("answer", id=login.learn("U+tag"))
    shown = daemon.show("u@a.test")
    assert login.asked("u@a.test")["account"] == login.asked("u")["account"]
    assert login.asked("u")["address"] == shown["address"] == "u@a.test"
    daemon.cli("domain", "add", "b.test", "--imap", "imap://127.0.0.1:1")
    assert login.asked("u")["answer"] == "refuse"


def test_flip_waits_for_every_peer_and_releases(daemon):
    login, smtp, jobs = (Login(daemon, 900001), Smtp(daemon, 900002),
                         Jobs(daemon))
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    hold, hold2 = login.expect("hold"), smtp.expect("hold")
    assert hold == hold2 and hold["epoch"] == 2
    assert 0 < hold["quiet_within_ms"] <= 3000
    waiting = smtp.ask("u@a.test", "mail")
    login.quiet(hold)
    assert daemon.show("u@a.test")["route"] == "held"
    jobs.send(m="lease", free=4, urgent=4)
    assert jobs.silent("job", 0.5)
    smtp.quiet(hold2, trail=True)
    final = jobs.take("final")
    assert final["epoch"] == 2
    assert smtp.silent("answer", 0.3)
    jobs.done(final, folders=2, messages=3, bytes=300, messages_total=3,
              bytes_total=300, is_verified=True)
    assert login.expect("release")["epoch"] == 2
    answer = smtp.expect("answer", id=waiting)
    assert answer["epoch"] == 3 and "local" in answer["answer"]
    shown = daemon.show("u@a.test")
    assert (shown["route"], shown["copy"], shown["epoch"]) == ("local",
                                                              "trail", 3)
    assert shown["provisioned"] and shown["flipped_at"]
    auth = sqlite3.connect(daemon.state / "dovecot" / "auth.db")
    assert auth.execute("select active, epoch, password from users").fetchall(
    ) == [(1, 3, "{SHA512-CRYPT}$6$x$y")]
    assert jobs.take("trail")["options"] == {}
    login.send(m="confirm", account=hold["account"])
    daemon.wait_for("u@a.test", password_state="confirmed")


def test_flip_that_local_could_not_be_told_of_is_told_later(daemon):
    login, smtp, jobs = (Login(daemon, 900001), Smtp(daemon, 900002),
                         Jobs(daemon))
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    hold = login.expect("hold")
    auth = sqlite3.connect(daemon.state / "dovecot" / "auth.db",
                           isolation_level=None)
    auth.execute("update users set epoch = 99")  # a row it must not touch
    waiting = smtp.ask("u@a.test", "mail")
    login.quiet(hold)
    smtp.quiet(smtp.expect("hold"))
    jobs.done(jobs.take("final"), folders=2, messages=3,
              is_verified=True)
    assert smtp.expect("answer", id=waiting)["answer"] == "unavailable"
    shown = daemon.show("u@a.test")
    assert shown["route"] == "local" and not shown["provisioned"]
    auth.execute("update users set epoch = 1")
    daemon.wait_for("u@a.test", provisioned=True)
    assert smtp.asked("u@a.test", "mail")["answer"] == "local"


def test_local_that_lost_its_accounts_is_told_of_them_again(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    login.quiet(login.expect("hold"))
    jobs.done(jobs.take("final"), folders=2, messages=3,
              is_verified=True)
    daemon.wait_for("u@a.test", provisioned=True)
    auth = sqlite3.connect(daemon.state / "dovecot" / "auth.db",
                           isolation_level=None)
    auth.execute("delete from users")
    daemon.kill_state()
    daemon.wait_for("u@a.test", provisioned=True)
    assert auth.execute("select username, active, epoch, password from users"
                        ).fetchall() == [
        ("u@a.test", 1, 3, "{SHA512-CRYPT}$6$x$y")]


def test_who_lives_on_local_is_not_served_by_an_old_control_db(daemon):
    login, smtp = Login(daemon, 900001), Smtp(daemon, 900002)
    login.expect("answer", id=login.learn("u@a.test"))
    daemon.wait_for("u@a.test", route="legacy")
    auth = sqlite3.connect(daemon.state / "dovecot" / "auth.db",
                           isolation_level=None)
    auth.execute("delete from users")
    auth.executemany("insert into users (username, active, epoch)"
                     " values (?, 1, ?)",
                     [("u@a.test", 7), ("v@a.test", 3), ("own@a.test", None)])
    for name in ("u@a.test", "v@a.test"):
        assert login.asked(name)["answer"] == "unavailable"
        assert smtp.asked(name, "mail")["answer"] == "unavailable"
    login.expect("answer", id=login.learn("v@a.test"))
    assert [a["address"] for a in
            daemon.cli("account", "list")["accounts"]] == ["u@a.test"]
    assert login.asked("own@a.test")["answer"] == "prove"


def test_trail_that_legacy_refuses_keeps_the_password_and_goes_on(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    login.quiet(login.expect("hold"))
    jobs.done(jobs.take("final"), folders=2, messages=3,
              is_verified=True)
    began = time.time()
    jobs.done(jobs.take("trail"), kind="denied", text="overloaded")
    shown = daemon.wait_for("u@a.test", last_error_kind="denied")
    assert shown["password_sealed"] and shown["copy"] == "trail"
    control = sqlite3.connect(daemon.state / "control.db")
    [(due,)] = control.execute("select due_at from jobs where kind = 'trail'")
    assert began + 60 < due / 1000 < began + 2 * 3600


def test_busy_gives_the_hold_up_at_once_and_is_no_failure(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    hold = login.expect("hold")
    login.send(m="busy", account=hold["account"], epoch=hold["epoch"])
    login.expect("release", epoch=2)
    shown = daemon.show("u@a.test")
    assert (shown["route"], shown["copy"], shown["epoch"]) == ("legacy",
                                                              "delta", 3)
    assert shown["hold_failures"] == 0
    assert 10e3 < shown["next_flip_at"] - time.time() * 1e3 < 16e3


def test_no_quiet_in_time_goes_back_for_a_quarter_of_an_hour(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    login.expect("hold")
    login.expect("release", epoch=2)
    shown = daemon.show("u@a.test")
    assert shown["route"] == "legacy" and shown["hold_failures"] == 1
    assert shown["next_flip_at"] - time.time() * 1e3 > 14 * 60e3


def test_a_peer_that_dies_is_quiet(daemon):
    login, other, jobs = (Login(daemon, 900001), Login(daemon, 900002),
                          Jobs(daemon))
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    hold = login.expect("hold")
    other.expect("hold")
    login.quiet(hold)
    other.close()
    jobs.take("final", 2)


def test_a_peer_that_comes_during_a_hold_hears_of_it(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    hold = login.expect("hold")
    late = Login(daemon, 900005)
    assert late.receive() == hold
    login.quiet(hold)
    assert jobs.silent("job", 0.3)
    late.quiet(hold)
    jobs.take("final", 2)


def test_last_delta_that_fails_goes_back_to_legacy(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    hold, final = flip_until_copying(daemon, login, jobs)
    waiting = login.ask("u@a.test")
    jobs.done(final, kind="retry", text="cut")
    login.expect("release", epoch=2)
    assert "legacy" in login.expect("answer", id=waiting)["answer"]
    assert daemon.show("u@a.test")["route"] == "legacy"


def test_last_delta_that_outlasts_its_share_is_cancelled_and_ignored(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    hold, final = flip_until_copying(daemon, login, jobs)
    assert jobs.expect("cancel")["job"] == final["job"]
    jobs.done(final, messages=3)
    login.expect("release", epoch=2)
    shown = daemon.show("u@a.test")
    assert (shown["route"], shown["epoch"]) == ("legacy", 3)


def test_killed_while_held_comes_back_as_legacy(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    hold, final = flip_until_copying(daemon, login, jobs)
    daemon.kill_state()
    again = Login(daemon, 900001)
    answer = again.asked("u@a.test")
    assert "legacy" in answer["answer"] and answer["epoch"] == 3
    shown = daemon.show("u@a.test")
    assert (shown["route"], shown["copy"]) == ("legacy", "delta")
    jobs = Jobs(daemon)
    jobs.done(final, messages=3)  # of an earlier life: means nothing
    jobs.take("delta")
    assert daemon.show("u@a.test")["route"] == "legacy"


def test_what_was_answered_survives_a_kill(daemon):
    login = Login(daemon, 900001)
    ids = [login.learn(f"u{i}@a.test") for i in range(50)]
    for i in ids:
        login.expect("answer", id=i)
    daemon.kill_state()
    assert len(daemon.cli("account", "list")["accounts"]) == 50


def test_refused_password_waits_for_the_next_good_login(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.done(jobs.take("hash"), hash="{X}y")
    jobs.done(jobs.take("initial"), kind="denied", text="changed")
    shown = daemon.wait_for("u@a.test", copy="failed")
    assert shown["password_state"] == "none" and not shown["password_sealed"]
    assert shown["last_error_kind"] == "denied"
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.take("initial")
    assert daemon.show("u@a.test")["password_state"] == "learnt"


def test_manual_cutover_waits_for_the_operator(daemon):
    daemon.cli("domain", "set", "a.test", "--cutover", "manual")
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    assert login.silent("hold", 0.5)
    daemon.cli("cutover", "u@a.test")
    jobs.delta()
    login.expect("hold")


def test_job_that_failed_is_tried_again_and_its_error_shown(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.done(jobs.take("hash"), hash="{X}y")
    jobs.done(jobs.take("initial"), kind="retry", text="connection refused")
    shown = daemon.wait_for("u@a.test", last_error="connection refused")
    assert shown["copy"] == "initial"
    assert jobs.take("initial")["attempts"] == 1


def test_password_that_cannot_be_hashed_is_told_and_never_flips(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.done(jobs.take("hash"), kind="denied", text="refused")
    jobs.done(jobs.take("initial"), folders=1, messages=1, bytes=9,
              messages_total=1, bytes_total=9)
    jobs.delta(1)  # a good copy does not hide it
    said = "the password cannot be hashed: refused"
    daemon.wait_for("u@a.test", copy="delta", last_error=said)
    stuck = daemon.cli("status")["stuck"]
    assert [a["last_error"] for a in stuck] == [said]
    answer = daemon.cli("cutover", "u@a.test", status=1)
    assert answer["accounts"][0]["cutover"] == "no_hash"


def test_jobs_process_that_dies_gives_its_leases_back(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.done(jobs.take("hash"), hash="{X}y")
    jobs.take("initial")
    jobs.close()
    Jobs(daemon, 900099).take("initial")


def test_list_creates_accounts_or_nothing(daemon, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("address;legacy_user;password\n"
                   'v@a.test;old;"p;""w"\nnobody@b.test;x;y\n')
    said = daemon.cli("migrate", "--csv", str(bad), status=1)
    assert "line 3" in said["error"]
    assert daemon.cli("account", "list")["accounts"] == []
    good = tmp_path / "good.csv"
    good.write_text('v@a.test;old;"p;""w"\n')
    assert daemon.cli("migrate", "--csv", str(good), "--dry-run")["dry_run"]
    assert daemon.cli("account", "list")["accounts"] == []
    daemon.cli("migrate", "--csv", str(good))
    shown = daemon.show("v@a.test")
    assert shown["legacy_user"] == "old" and shown["password_sealed"]
    assert shown["password_state"] == "none"
    jobs = Jobs(daemon)
    job = jobs.take("initial")
    assert job["legacy_user"] == "old" and job["blob"]
    jobs.done(job, messages=1)
    jobs.take("hash")
    assert daemon.show("v@a.test")["password_state"] == "learnt"


def test_pause_ends_the_worker_and_resume_goes_on(daemon):
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.done(jobs.take("hash"), hash="{X}y")
    job = jobs.take("initial")
    daemon.cli("account", "pause", "u@a.test")
    jobs.expect("cancel", job=job["job"])
    jobs.done(job, kind="retry", text="cancelled")
    assert daemon.wait_for("u@a.test", copy="paused")["last_error"] is None
    daemon.cli("account", "resume", "u@a.test")
    jobs.take("initial")


def test_verify_answers_when_its_worker_has_ended(daemon):
    daemon.cli("domain", "set", "a.test", "--cutover", "manual")
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    login.expect("answer", id=login.learn("u@a.test"))
    jobs.copy()
    asked = subprocess.Popen(
        [BUILD / "mailhaul", "-c", daemon.conf, "--json", "verify",
         "u@a.test"], stdout=subprocess.PIPE, text=True)
    jobs.done(jobs.take("verify"), messages=3, differences=1,
              details=["INBOX 3: body differs"])
    out, _ = asked.communicate(timeout=10)
    assert asked.returncode == 1
    assert json.loads(out)["accounts"][0]["details"] == [
        "INBOX 3: body differs"]


def test_two_masters_cannot_share_a_state_dir(daemon):
    second = subprocess.run([BUILD / "mailhauld", "-c", daemon.conf,
                             "--foreground"], capture_output=True, text=True,
                            timeout=20)
    assert second.returncode == 1 and "another mailhauld" in second.stderr


def test_newer_database_is_refused(tmp_path):
    d = Daemon(tmp_path)
    with sqlite3.connect(d.state / "control.db") as db:
        db.execute("pragma user_version = 999")
    done = subprocess.run([BUILD / "mailhauld", "-c", d.conf, "--foreground"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "newer" in done.stderr


def test_mistake_in_the_configuration_names_its_line(tmp_path):
    conf = tmp_path / "bad.yaml"
    conf.write_text("node: x\nstate_dir: /tmp\nnonsense: 1\n")
    done = subprocess.run([BUILD / "mailhauld", "-c", conf, "--check"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{conf}:3:")


def test_all_processes_die_with_a_killed_master(daemon):
    pid = daemon.state_pid()
    daemon.process.kill()
    daemon.process.wait()
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline and os.path.exists(f"/proc/{pid}"):
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")
    daemon.start()
