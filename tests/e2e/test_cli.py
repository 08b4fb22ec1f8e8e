"""mailhaul, the administrator's command: help, exit statuses, JSON as
documented, lists, and who may use it."""

import json
import os
import pty
import pwd
import re
import select
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from devservers import node
from lib.old_domains import imap_answer
from lib.snapshot import differences
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 12}
DOC = Path(__file__).resolve().parents[2] / "docs" / "JSON.md"
COMMANDS = [
    "init", "domain add", "domain list", "domain show", "domain set",
    "domain enable", "domain disable", "domain remove", "domain close",
    "domain reopen", "domain strangers", "account list",
    "account show", "account pause", "account resume", "account remove",
    "account import", "account password", "account lock", "account unlock",
    "account rename", "account forget-legacy",
    "audit", "name add", "name remove", "name list",
    "domain admit", "domain unadmit", "freeze", "thaw", "rollback",
    "account accept", "trace",
    "migrate", "status", "verify", "cutover",
    "db check", "db backup", "db rebuild", "key show", "key rotate"]


def run(*args, **kwargs):
    return subprocess.run([str(node.binaries() / "mailhaul"), *args],
                          capture_output=True, text=True, timeout=60, **kwargs)


def plain(world, *args, **kwargs):
    return run("-c", str(world.node.conf), *args, **kwargs)


# ---- help and usage

def test_every_command_is_listed_and_has_help():
    done = run("--help")
    assert done.returncode == 0 and done.stderr == ""
    listed = re.findall(r"^  (\w+(?: [\w-]+)?)  ", done.stdout, re.M)
    assert set(COMMANDS) == set(listed)
    for command in listed:
        help_ = run(*command.split(), "--help")
        assert help_.returncode == 0 and help_.stderr == ""
        assert help_.stdout.startswith("usage: mailhaul")
        assert command in help_.stdout.splitlines()[0]


@pytest.mark.parametrize("args", [
    [], ["no-such"], ["domain"], ["domain", "no-such"], ["--no-such"],
    ["domain", "add"], ["domain", "show"], ["domain", "show", "a", "b"],
    ["account", "show"], ["account", "list", "x"], ["status", "x"],
    ["domain", "list", "--no-such"], ["migrate"], ["verify"], ["cutover"],
    ["migrate", "--csv"], ["domain", "add", "a.test", "--imap"],
    ["domain", "add", "a.test", "--imap", "imap://x", "--hold-seconds", "abc"],
    ["domain", "add", "a.test", "--imap", "imap://x", "--hold-seconds", "5x"],
    ["domain", "add", "a.test"],
    ["domain", "add", "a.test", "--imap", "http://x.test"],
    ["domain", "add", "a/b", "--imap", "imap://x.test"],
    *[["domain", what, "example.test", "--imap", "imap://x.test", *option]
      for what in ("add", "set")
      for option in (("--cutover", "x"), ("--username", "{nobody}"),
                     ("--hold-seconds", "-1"), ("--hold-seconds", "-5"),
                     ("--pop3", "imap://x.test"), ("--smtp", "x"),
                     ("--submission", "imap://x.test"),
                     ("--sieve", "smtp://x.test"),
                     ("--master-login", "{nobody}"),
                     ("--learn-days", "-1"))],
], ids=" ".join)
def test_a_mistake_in_the_call_is_exit_2_and_does_nothing(shared_world, args):
    before = plain(shared_world, "--json", "domain", "list").stdout
    done = plain(shared_world, *args)
    assert done.returncode == 2, done
    assert done.stdout == "" and done.stderr != ""
    assert plain(shared_world, "--json", "domain", "list").stdout == before


@pytest.mark.parametrize("args, kind", [
    (["domain", "show", "no.test"], "setup"),
    (["domain", "remove", "no.test"], "setup"),
    (["domain", "add", "example.test", "--imap", "imap://x.test"], "setup"),
    (["account", "show", "nobody@example.test"], "setup"),
    (["account", "show", "../x@example.test"], None),
    (["account", "pause", "nobody@example.test"], "setup"),
    (["account", "remove", "nobody@example.test"], "setup"),
    (["cutover", "nobody@example.test"], "setup"),
    (["migrate", "nobody@no.test"], None),
    (["migrate", "--domain", "no.test"], "setup"),
    (["migrate", "--csv", "/no/such/file"], "setup"),
    (["account", "list", "--domain", "no.test"], "setup"),
    (["status", "--domain", "no.test"], "setup"),
], ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_what_cannot_be_done_is_exit_1_and_named(shared_world, args, kind):
    done = plain(shared_world, "--json", *args)
    assert done.returncode == 1, done
    assert done.stderr.startswith("mailhaul: ")
    document = json.loads(done.stdout)
    if "error" in document:
        assert set(document) == {"error", "kind"}
        assert document["error"] in done.stderr
        assert kind is None or document["kind"] == kind
    again = plain(shared_world, *args)
    assert again.returncode == 1 and again.stderr == done.stderr


def test_an_unknown_command_is_named():
    for args in (["foo"], ["domain", "foo"], ["foo", "bar"]):
        named = "foo" if args[0] == "foo" else "domain foo"
        assert run(*args).stderr.splitlines()[0] == \
            f"mailhaul: unknown command {named}"


def test_both_programs_tell_their_version():
    for program in ("mailhaul", "mailhauld"):
        done = subprocess.run([str(node.binaries() / program), "--version"],
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 and done.stderr == ""
        assert re.fullmatch(program + r" \d+\.\d+\n", done.stdout)


# ---- JSON

def documented(section):
    """Keys in the first column of the tables of a section; and its text."""
    text = DOC.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    keys = set()
    for row in re.findall(r"^\| (`.*?) \|", text, re.M):
        keys |= set(re.findall(r"`(\w+)`", row))
    return keys, text


def in_braces(text):
    """The keys of the first {a, b, c} in a text."""
    return set(re.search(r"\{([\w, \n]+)\}", text)[1].replace(
        "\n", " ").replace(" ", "").split(","))


def flat(text):
    return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="module")
def moved(shared_world):
    """user001 lives here, user002 is copied."""
    world = shared_world
    for user in ("user001", "user002"):
        imap_answer(world, world.address(user), world.password(user))
        world.wait_account(user, copy="delta")
    world.mailhaul("cutover", world.address("user001"))
    world.wait_account("user001", route="local")
    return world


def test_domains_are_printed_as_documented(moved):
    keys, text = documented("domain add, set, show, enable, disable")
    only_show = set(re.findall(r"`(\w+)`", " ".join(re.findall(
        r"^\| (`.*?) \| only `show`", text, re.M))))
    assert {"accounts", "accounts_local", "opens_at"} <= only_show
    show = moved.mailhaul("domain", "show", "example.test")
    assert set(show) == keys
    assert (show["accounts"], show["accounts_local"]) == (2, 1)
    listed = moved.mailhaul("domain", "list")
    assert set(listed) == {"domains"}
    for row in listed["domains"]:
        assert set(row) == keys - only_show
    for args in (["add", "x.test", "--imap", "imap://x.test"],
                 ["set", "x.test", "--hold-seconds", "9"],
                 ["disable", "x.test"], ["enable", "x.test"]):
        assert set(moved.mailhaul("domain", *args)) == keys - only_show
    assert moved.mailhaul("domain", "show", "x.test")["hold_seconds"] == 9
    assert moved.mailhaul("domain", "remove", "X.test") == {
        "removed": "x.test"}


def test_accounts_are_printed_as_documented(moved):
    world = moved
    keys, text = documented("account show")
    row = world.account("user001")
    assert set(row) == keys
    line = re.search(r"^\| `jobs` .*$", text, re.M)[0]
    for job in row["jobs"]:
        assert set(job) == in_braces(line)
    assert row["route"] in ("legacy", "held", "local")
    ordered = re.findall(r"^\| (`.*?) \|", text, re.M)
    names = re.findall(r"`(\w+)`", " ".join(ordered))
    short = set(names[:names.index("last_error_at") + 1])
    rows = world.mailhaul("account", "list")["accounts"]
    assert {r["address"] for r in rows} >= {
        "user001@example.test", "user002@example.test"}
    for row in rows:
        assert set(row) == short
    assert set(world.mailhaul("account", "pause",
                              world.address("user002"))) == short
    assert world.account("user002")["copy"] == "paused"
    assert set(world.mailhaul("account", "resume",
                              world.address("user002"))) == short
    world.wait_account("user002", copy="delta")


def test_status_is_printed_as_documented(moved):
    keys, text = documented("status")
    totals = re.search(r"\| `totals` \| (.*?) \|", text)[1]
    status = moved.mailhaul("status")
    assert set(status) == keys
    assert set(status["totals"]) == set(re.findall(r"`(\w+)`", totals))
    assert set(status["jobs"]) == {"queued", "running"}
    assert status["totals"]["route"]["local"] >= 1
    assert moved.mailhaul("status", "--domain", "example.test")["totals"][
        "accounts"] >= 2


def test_cutover_migrate_and_verify_are_printed_as_documented(moved):
    world = moved
    _, text = documented("cutover")
    rows = world.mailhaul("cutover", world.address("user001"))["accounts"]
    assert [set(r) for r in rows] == [in_braces(text)]
    assert rows[0]["cutover"] == "local"
    _, text = documented("migrate")
    plan = world.mailhaul("migrate", "--domain", "example.test", "--dry-run")
    assert set(plan) == {"dry_run", "accounts"} and plan["dry_run"] is True
    for row in plan["accounts"]:
        assert set(row) == in_braces(text)
    _, text = documented("verify")
    row, = world.mailhaul("verify", world.address("user001"))["accounts"]
    assert set(row) == in_braces(text)
    assert row["differences"] == 0
    done = world.mailhaul("verify", "nobody@example.test", check=False)
    assert done.returncode == 1
    row, = json.loads(done.stdout)["accounts"]
    assert set(row) == in_braces(text.split("could not be compared has")[1])


def test_a_sample_of_a_domain_is_compared(moved):
    listed = moved.mailhaul("account", "list")["accounts"]
    domain = moved.settings.domain
    done = moved.mailhaul("verify", "--domain", domain, "--sample", "0.0001%",
                          check=False)
    told = json.loads(done.stdout)
    assert told["of"] == len(listed) >= 2 and len(told["accounts"]) == 1
    assert told["accounts"][0]["address"] in {r["address"] for r in listed}
    whole = json.loads(moved.mailhaul("verify", "--domain", domain, "--sample",
                                      "100%", check=False).stdout)
    assert [r["address"] for r in whole["accounts"]] == [
        r["address"] for r in listed]
    for wrong in (["--domain", domain, "--sample", "many"],
                  [moved.address("user001"), "--sample", "5%"]):
        assert moved.mailhaul("verify", *wrong, check=False).returncode == 2


def test_a_failure_prints_the_documented_document(moved):
    done = moved.mailhaul("account", "show", "no@example.test", check=False)
    assert set(json.loads(done.stdout)) == {"error", "kind"}
    intro = DOC.read_text().split("\n## ")[0]
    assert '{"error": text, "kind": kind}' in flat(intro)


def test_without_json_everything_is_said_in_words(moved):
    for args in (["status"], ["domain", "list"], ["account", "list"],
                 ["domain", "show", "example.test"],
                 ["account", "show", "user001@example.test"],
                 ["verify", "user001@example.test"],
                 ["migrate", "--domain", "example.test", "--dry-run"]):
        done = plain(moved, *args)
        assert done.returncode == 0 and done.stderr == "", done
        assert "example.test" in done.stdout or "accounts" in done.stdout
        assert '"' not in done.stdout


# ---- lists

def written(tmp_path, text):
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


BAD_LISTS = {
    "second line": ("user010@example.test,,pw\nnobody,,pw\n", 2),
    "other domain": ("user010@example.test,,pw\nx@no.test,,pw\n", 2),
    "open quote": ("user010@example.test,,pw\n\"user011@example.test,,x\n", 2),
    "many fields": ("user010@example.test,,pw\na@example.test,b,c,d\n", 2),
    "no address": ("user010@example.test,,pw\n,x,y\n", 2),
    "a path": ("user010@example.test,,pw\n\n../x@example.test,,pw\n", 3),
    "nul": (b"user010@example.test,,pw\na\0@example.test,,pw\n", 2),
    "not utf-8": (b"user010@example.test,,pw\n\xff@example.test,,pw\n", 2),
    "long": ("user010@example.test,,pw\na@example.test,," + "x" * 3000, 2),
    "twice": ("user010@example.test,,pw\nUser010@Example.test,,other\n", 2),
    "two users": ("user010@example.test,a,p\n\nuser010@example.test,b,p\n",
                  3),
    "bad header": ("address,colour\nuser010@example.test,pw\n", 1),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_a_list_with_a_bad_line_is_not_applied_at_all(shared_world, tmp_path,
                                                      case):
    text, line = BAD_LISTS[case]
    done = shared_world.mailhaul("migrate", "--csv", written(tmp_path, text),
                                 check=False)
    assert done.returncode == 1, done
    assert json.loads(done.stdout)["error"].startswith(
        f"{tmp_path / 'list.csv'}: line {line}: ")
    assert shared_world.account("user010") is None


def test_a_dry_run_changes_nothing(shared_world, tmp_path):
    world = shared_world
    path = written(tmp_path, "address;password\nuser010@example.test;pw-x\n")
    before = world.mailhaul("account", "list")
    plan = world.mailhaul("migrate", "--csv", path, "--dry-run")
    assert plan["dry_run"] is True
    assert [r["action"] for r in plan["accounts"]] == ["create"]
    assert world.mailhaul("account", "list") == before
    assert world.account("user010") is None


def test_a_domain_moves_by_a_list_without_anybody_logging_in(make_world,
                                                             tmp_path):
    world = make_world(more_users=6, cutover="auto")
    people = [f"user{n:03}" for n in range(1, 7)]
    for user in people:
        world.fill(user, messages=20, folders=3, total=40_000)
    before = {user: world.snapshot(user, "legacy") for user in people}
    world.set_legacy_password("user006", 'q"u,o;t\u00e9')
    rows = "".join(f"{world.address(u)},,{world.password(u)}\n"
                   for u in people[:5])
    path = written(tmp_path, "address,legacy_user,password\n" + rows +
                   'User006@Example.test,user006@example.test,"q""u,o;t\u00e9"'
                   "\n")
    result = world.mailhaul("migrate", "--domain", "example.test", "--csv",
                            path, "--wait")
    keys, _ = documented("account show")
    for row in result["accounts"]:
        assert keys <= set(row)
        user = row["address"].partition("@")[0]
        assert row["route"] == "local"
        assert row["messages"] == sum(len(folder.messages)
                                      for folder in before[user].values())
        assert row["password_state"] == "learnt"
    assert sorted(r["address"] for r in result["accounts"]) == [
        world.address(u) for u in people]
    world.stop("legacy-dovecot")
    for user in people[:5]:
        assert differences(before[user], world.snapshot(user, "local")) == []
    with world.imap_wire() as wire:
        wire.send('t LOGIN user006@example.test {11+}\r\nq"u,o;t\u00e9\r\n'
                  .replace("{11+}", "{%d+}" % len('q"u,o;t\u00e9'.encode())))
        assert wire.finish("t")[0].startswith(b"OK")


def test_a_second_list_mends_the_first_one(shared_world, tmp_path):
    world = shared_world
    address = world.address("user012")
    path = written(tmp_path, f"{address},nobody@example.test,wrong\n")
    assert world.mailhaul("migrate", "--csv", path, "--wait",
                          check=False).returncode == 1
    row = f"{address},{address},{world.password('user012')}\n"
    path = written(tmp_path, row + row)
    done = world.mailhaul("migrate", "--csv", path, "--wait")
    assert [r["action"] for r in done["accounts"]] == ["updated"]
    row = world.wait_account("user012", copy="delta",
                             password_state="learnt")
    assert row["legacy_user"] == address and row["last_error"] is None


def test_waiting_for_a_wrong_password_fails_and_says_so(shared_world,
                                                        tmp_path):
    world = shared_world
    path = written(tmp_path, "user011@example.test,,wrong\n")
    done = world.mailhaul("migrate", "--csv", path, "--wait", check=False)
    assert done.returncode == 1
    row, = json.loads(done.stdout)["accounts"]
    assert row["copy"] == "failed" and row["last_error_kind"] == "denied"
    assert "user011" in done.stderr and "wrong" not in done.stderr.replace(
        "wrong password", "")
    assert row["route"] == "legacy"
    # her own login mends it
    imap_answer(world, "user011@example.test", "pw-user011")
    world.wait_account("user011", copy="delta")


# ---- watching, and who may

def on_terminal(world, *args, seconds):
    """What a command shows on a terminal in some seconds; then Ctrl-C."""
    pid, fd = pty.fork()
    if pid == 0:
        # who started the tests may have had it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(str(node.binaries() / "mailhaul"),
                 ["mailhaul", "-c", str(world.node.conf), *args])
    shown, until = b"", time.monotonic() + 30
    try:
        while time.monotonic() < until and shown.count(b"accounts ") < seconds:
            if select.select([fd], [], [], 1)[0]:
                shown += os.read(fd, 65536)
        os.write(fd, b"\x03")
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(fd)
    return shown.decode(), status


def test_status_watch_draws_bars_again_and_again(moved):
    shown, _ = on_terminal(moved, "status", "--watch", seconds=3)
    assert shown.count("accounts ") >= 3
    assert "\x1b[" in shown, "the picture before is overdrawn"
    bars = re.findall(r"[^\s\w]?([#=.\-\u2588-\u258f\u2591 ]{20,})", shown)
    assert bars, shown
    assert "messages" in shown and "jobs:" in shown


def test_status_watch_into_a_pipe_is_a_document_a_line(moved):
    watcher = subprocess.Popen(
        [str(node.binaries() / "mailhaul"), "-c", str(moved.node.conf),
         "--json", "status", "--watch"], stdout=subprocess.PIPE, text=True)
    try:
        seen = [json.loads(watcher.stdout.readline()) for _ in range(2)]
    finally:
        watcher.kill()
        watcher.wait()
        watcher.stdout.close()
    assert seen[0]["at"] < seen[1]["at"]


def ask_as(user, path):
    """What the control socket answers to that user."""
    code = ("import os,socket,struct,sys;"
            f"os.setgid({user.pw_gid});os.setgroups([]);os.setuid({user.pw_uid});"
            "s=socket.socket(socket.AF_UNIX,socket.SOCK_STREAM);"
            f"s.settimeout(10);s.connect({str(path)!r});"
            "m=b'{\"cmd\": \"account list\"}';"
            "s.sendall(struct.pack({fmt!r},len(m))+m);"
            "print(s.recv(100))".replace("{fmt!r}", "'>I'"))
    return subprocess.run(["/usr/bin/python3", "-c", code],
                          capture_output=True, text=True, timeout=20)


def test_the_control_socket_answers_root_and_its_own_user_only(shared_world):
    path = shared_world.folder / "state" / "control.sock"
    owner = pwd.getpwnam(shared_world.settings.owner)
    for user in ("nobody", "www-data", "dovecot"):
        done = ask_as(pwd.getpwnam(user), path)
        assert "ok" not in done.stdout, done
        assert "b''" in done.stdout or "Error" in done.stderr, done
    done = ask_as(owner, path)
    assert "ok" in done.stdout, done
    assert shared_world.mailhaul("status")


def test_who_may_not_ask_is_told_so(shared_world):
    done = plain(shared_world, "status", user="nobody", group="nogroup",
                 extra_groups=[])
    assert done.returncode == 1
    assert "(nobody) may not ask" in done.stderr, done.stderr


def test_a_password_is_not_cut_at_a_nul(shared_world, tmp_path):
    for text in (b"one\0two\n", b"one\0two", b"\0\n"):
        (tmp_path / "secret").write_bytes(text)
        done = plain(shared_world, "account", "password", "alice@example.test",
                     "--file", str(tmp_path / "secret"))
        assert done.returncode == 1
        assert "NUL" in done.stderr, (text, done.stderr)


def test_what_a_terminal_would_obey_is_printed_as_text(shared_world):
    shared_world.mailhaul("freeze", "--reason", "red \x1b[31m\nFROZEN \u009b1m")
    try:
        done = plain(shared_world, "status")
        assert "red \\x1b[31m\\x0aFROZEN \\xc2\\x9b1m" in done.stdout
    finally:
        shared_world.mailhaul("thaw")


def test_garbage_on_the_control_socket_harms_nobody(shared_world):
    path = str(shared_world.folder / "state" / "control.sock")
    state = shared_world.pids("state")
    for raw in (b"\xff" * 100, struct.pack(">I", 0), struct.pack(">I", 1 << 31),
                struct.pack(">I", 2) + b"[]", struct.pack(">I", 4) + b"null",
                struct.pack(">I", 17) + b'{"cmd": "xyzzy"}\n',
                struct.pack(">I", 9) + b'{"cmd":1}',
                struct.pack(">I", 50) + b"{"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(0.5)
            s.connect(path)
            s.sendall(raw)
            try:
                s.recv(1000)
            except OSError:
                pass
    assert shared_world.mailhaul("status")
    assert shared_world.pids("state") == state


def test_without_a_daemon_commands_work_on_the_database(make_world):
    world = make_world(run=False)
    world.node.cli("init")
    assert world.mailhaul("init") is not None, "again is no mistake"
    world.add_domain()
    assert world.mailhaul("status")["totals"]["accounts"] == 0
    assert world.mailhaul("domain", "show", "example.test")["enabled"]
    world.mailhaul("domain", "disable", "example.test")
    world.mailhaul("domain", "enable", "example.test")
    asked = world.mailhaul("audit")["entries"][0]
    assert asked["actor"] == "uid 0 (root)", "not who owns the database"
    done = world.mailhaul("verify", "--domain", "example.test", check=False)
    assert done.returncode in (0, 1)
    world.run_node()
    wait_until(lambda: imap_answer(world, "alice@example.test", "pw-alice")[
        0].startswith("OK"))
