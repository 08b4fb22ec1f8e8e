"""The role admin: /metrics and /healthz on a port, the administrator's commands
on a Unix socket only, and what is not to be had there."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from lib.waiting import wait_until

WORLD = {"cutover": "manual", "delta_seconds": 2, "admin": True}

LINE = re.compile(r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)'
                  r'(?:\{(?P<labels>[^{}]*)\})? (?P<value>[-+0-9.e]+)$')
LABELS = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,|$)')


def parse(text):
    """Prometheus text, strictly: {(name, labels): value}."""
    assert text.endswith("\n")
    series, types, family, done = {}, {}, None, set()
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            assert word in ("HELP", "TYPE")
            if name != family:
                assert name not in done, f"{name} comes in two places"
                done.add(name)
                family = name
            if word == "TYPE":
                assert rest in ("counter", "gauge") and name not in types
                assert (rest == "counter") == name.endswith("_total")
                types[name] = rest
            continue
        found = LINE.match(line)
        assert found, line
        assert found["name"] == family and family in types, line
        labels = found["labels"] or ""
        assert "".join(m[0] for m in LABELS.finditer(labels)) == labels, line
        key = (found["name"], tuple(sorted(LABELS.findall(labels))))
        assert key not in series, f"twice: {line}"
        series[key] = float(found["value"])
    return series


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


class Admin:
    def __init__(self, world):
        self.world = world
        self.port = world.ports("mailhaul")["admin"]
        self.socket = world.folder / "state" / "admin.sock"

    def get(self, path, over="tcp", method="GET", body=None, headers=None):
        c = (http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
             if over == "tcp" else Unix(self.socket))
        try:
            c.request(method, path, body, headers or {})
            answer = c.getresponse()
            return answer.status, answer.read().decode()
        finally:
            c.close()

    def metrics(self):
        status, text = self.get("/metrics")
        assert status == 200
        return parse(text)

    def value(self, name, **labels):
        key = ("mailhaul_" + name, tuple(sorted(labels.items())))
        return self.metrics().get(key, 0)

    def command(self, **request):
        status, text = self.get(
            "/v1/command", "unix", "POST", json.dumps(request),
            {"Content-Type": "application/json"})
        return status, json.loads(text)


@pytest.fixture(scope="module")
def admin(shared_world):
    made = Admin(shared_world)

    def is_well():
        try:
            return made.get("/healthz")[0] == 200
        except OSError:  # it does not listen yet
            return False
    wait_until(is_well, 30, 0.2, shared_world.log_tail)
    return made


def test_what_happens_is_counted_and_nobody_is_named(admin):
    world = admin.world
    world.fill("alice", messages=3)
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    world.send("alice")
    with pytest.raises(Exception):
        world.imap("alice", password="wrong")
    wait_until(lambda: admin.value("mails_total", side="legacy",
                                   answer="2xx") >= 1, 30, 0.3)
    wait_until(lambda: admin.value("logins_total", protocol="imap",
                                   side="legacy", result="ok") >= 1, 30, 0.3)
    wait_until(lambda: admin.value("logins_total", protocol="imap",
                                   side="none", result="denied") >= 1, 30, 0.3)
    assert admin.value("accounts", domain=world.settings.domain, route="legacy",
                       copy="delta") == 1
    assert admin.value("up") == 1
    assert admin.value("account_events_total", event="copied") == 1
    assert admin.value("disk_free_bytes", place="state_dir") > 0
    assert admin.value("last_backup_timestamp_seconds") == 0
    world.mailhaul("db", "backup", world.folder / "backup.db")
    assert admin.value("last_backup_timestamp_seconds") > time.time() - 60
    text = admin.get("/metrics")[1]
    assert "alice" not in text and "@" not in text


def test_sessions_come_and_go_in_the_gauge(admin):
    def now():
        return admin.value("sessions", protocol="imap")
    wait_until(lambda: now() == 0, 30, 0.3)
    session = admin.world.imap("bob")
    wait_until(lambda: now() == 1, 30, 0.3)
    session.logout()
    wait_until(lambda: now() == 0, 30, 0.3)


def test_totals_outlive_the_process_that_counted(admin):
    def total():
        return admin.value("sessions_total", protocol="imap")
    admin.world.imap("bob").logout()
    before = wait_until(total, 30, 0.3)
    admin.world.kill("login")
    admin.world.imap("bob").logout()
    wait_until(lambda: total() > before, 30, 0.3)


def test_a_state_process_that_is_silent_is_no_good_health(admin):
    pid = admin.world.pids("state")[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(1.1)  # an answer is good for a second
        status, text = admin.get("/healthz")
        assert status == 503
        assert "the state process does not answer" in text
        assert admin.value("up") == 0
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: admin.get("/healthz") == (200, "ok\n"), 30, 0.3)


def test_commands_come_over_the_unix_socket_alone(admin):
    world = admin.world
    address = world.address("erin")
    world.imap("erin").logout()
    for path in ("/v1/status", f"/v1/accounts/{address}", "/v1/audit"):
        assert admin.get(path)[0] == 404
        assert admin.get(path, "unix")[0] == 200
    status, row = admin.command(cmd="account pause", address=address,
                                reason="over http")
    assert status == 200 and row["copy"] == "paused"
    entry = json.loads(admin.get(f"/v1/audit?address={address}&limit=1",
                                 "unix")[1])["entries"][0]
    assert entry["event"] == "account pause"
    assert entry["reason"] == "over http"
    assert entry["actor"].startswith(f"uid {os.getuid()}")
    assert admin.command(cmd="account show", address="x@y.test")[0] == 400
    assert admin.command(cmd="no such")[0] == 400
    assert admin.get("/v1/audit?limit=a", "unix")[0] == 400
    assert admin.get("/v1/command", "unix")[0] == 405


@pytest.mark.parametrize("request_", [
    {"cmd": "account list"},
    {"cmd": "migrate", "domain": "example.test", "dry_run": True}])
def test_a_command_on_many_comes_page_by_page(admin, request_):
    status, page = admin.command(**request_)
    assert status == 200 and page["next"] is None
    assert page["total"] == len(page["accounts"]) >= 1
    last = page["accounts"][-1]["address"]
    status, page = admin.command(**request_, after=last)
    assert status == 200 and page["accounts"] == []


def test_the_next_page_of_each_command_can_be_asked_for(admin):
    admin.world.mailhaul("domain", "add", "empty.test", "--imap",
                         "imap://127.0.0.1:1")
    for cmd in ("cutover", "rollback"):
        status, page = admin.command(cmd=cmd, domain="empty.test", after="a")
        assert status == 200 and page["accounts"] == [] and page["total"] == 0
        assert page["next"] is None
    status, page = admin.command(cmd="domain reopen", name="empty.test",
                                 after="a")
    assert status == 400 and "not closed" in page["error"]
    admin.world.mailhaul("domain", "remove", "empty.test")


@pytest.mark.parametrize("request_, named", [
    ({"cmd": "freeze", "name": "example.test"}, 'freeze takes no "name"'),
    ({"cmd": "freeze", "domian": "example.test"}, 'freeze takes no "domian"'),
    ({"cmd": "freeze", "domain": ["example.test"]}, '"domain" is no text'),
    ({"cmd": "thaw", "host": 5}, '"host" is no text'),
    ({"cmd": "audit", "limit": "5"}, '"limit" is no number'),
    ({"cmd": "domain admit", "name": "example.test", "addresses": "a@b.test"},
     '"addresses" is no list'),
    ({"cmd": "account pause", "address": "a@b.test", "reason": 5},
     '"reason" is no text')])
def test_a_slip_in_a_request_is_named_and_does_nothing(admin, request_, named):
    before = admin.world.mailhaul("audit")
    status, answer = admin.command(**request_)
    assert (status, answer["kind"]) == (400, "setup")
    assert answer["error"] == named
    assert admin.world.mailhaul("audit") == before


def test_a_foreign_uid_may_not_command(admin):
    if os.getuid() != 0:
        pytest.skip("needs another user")
    asking = ("import socket,sys\n"
              "s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
              "s.sendall(b'GET /v1/status HTTP/1.0\\r\\n\\r\\n')\n"
              "d=b''\n"
              "while (b:=s.recv(4096)): d+=b\n"
              "print(d.decode())")
    for folder in (admin.world.folder, admin.world.folder / "state"):
        os.chmod(folder, os.stat(folder).st_mode | 0o011)
    done = subprocess.run(
        ["/usr/bin/python3", "-c", asking, str(admin.socket)], text=True,
        capture_output=True, user=65534, group=65534)
    assert " 403 " in done.stdout, done.stdout + done.stderr
    assert "not for uid 65534" in done.stdout


def raw(admin, data, wait_s=5):
    s = socket.create_connection(("127.0.0.1", admin.port), timeout=wait_s)
    try:
        s.sendall(data)
        return s.recv(4096)
    except OSError:
        return b""
    finally:
        s.close()


def test_hostile_requests_are_bounded(admin):
    assert b" 200 " not in raw(admin, b"GET /metrics HTTP/1.1\r\nX: "
                               + b"x" * 60000 + b"\r\n\r\n")
    assert b" 200 " not in raw(admin, b"\0\xff" * 300 + b"\r\n\r\n")
    raw(admin, b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")
    raw(admin, b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"ffffffffffffffff\r\nxx", 2)
    assert admin.get("/%00metrics")[0] == 404
    assert admin.get("/metrics", method="DELETE")[0] in (405, 501)
    assert admin.get("/v1/accounts/%ff", "unix")[0] == 400
    held = [socket.create_connection(("127.0.0.1", admin.port))
            for _ in range(300)]  # more than it has descriptors
    for s in held:
        s.close()
    wait_until(lambda: admin.get("/healthz")[0] == 200, 40, 0.5)
    assert admin.metrics()
