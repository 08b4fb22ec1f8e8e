"""Mistakes in the configuration, and databases that are not ours to open."""

import re
import sqlite3
import subprocess

import pytest
from devservers import node
from lib.waiting import wait_until

SERVERS = WORLD = {"local_only": True}

# what is changed in a good configuration -> the line it is on, what is said.
# The line is given by the text that stands there afterwards.
MISTAKES = {
    "unknown key": ("node: ", "colour: red\nnode: ", "colour", "colour"),
    "unknown key inside": ("  workers: ", "  wrokers: ", "wrokers", "wrokers"),
    "no such role": ("roles: [login", "roles: [logni", "roles:", "logni"),
    "no such level": ("level: info", "level: chatty", "log:", "chatty"),
    "a number that is none": ("per_host: 8", "per_host: eight", "per_host",
                              "eight"),
    "no workers": ("workers: ", "workers: 0 #", "workers", "workers"),
    "a number too large": ("per_host: 8", "per_host: 99999", "per_host",
                           "1024"),
    "a negative number": ("per_host: 8", "per_host: -1", "per_host", "-1"),
    "a port too large": ("port: {imap}", "port: 70000", "70000", "port"),
    "no such protocol": ("{{protocol: smtp", "{{protocol: http",
                         "protocol: http", "http"),
    "a host for an address": ("address: 127.0.0.1", "address: localhost",
                              "localhost, port", "numeric"),
    "no such tls": ("tls: implicit", "tls: maybe", "maybe", "maybe"),
    "certificate without key": ("  key: ", "  # key: ", "tls:", "key"),
    "old tls": ('minimum: "1.2"', 'minimum: "0.9"', "minimum", "0.9"),
    "relative state_dir": ("state_dir: ", "state_dir: .", "state_dir:",
                           "absolute"),
    "no such database": ("sqlite:control.db", "mysql:control", "database:",
                         "sqlite"),
    "no such store": ("type: maildir", "type: mbox", "type: mbox", "mbox"),
    "one mailbox for all": ("/{{domain}}/{{local}}/", "/all/", "path:",
                            "{local}"),
    "one mailbox a domain": ("/{{domain}}/{{local}}/", "/{{domain}}/",
                             "path:", "{local}"),
    "one mailbox for two domains": ("/{{domain}}/{{local}}/", "/{{local}}/",
                                    "path:", "{domain}"),
    "no such word": ("/{{domain}}/{{local}}/", "/{{user}}/{{local}}/",
                     "path:", "{word}"),
    "no such scheme": ("SHA512-CRYPT", "ROT13", "ROT13", "ROT13"),
    "broken yaml": ("jobs:", "jobs: [", "jobs: [", ""),
    "a tab": ("  workers", "\tworkers", "\tworkers", ""),
    "twice": ("node: ", "node: a\nnode: ", "node: mx", ""),
    "text for a list": ("roles: [login, smtp, jobs]", "roles: login",
                        "roles", ""),
}


def run(program, conf, *args):
    return subprocess.run([str(node.binaries() / program), "-c", str(conf),
                           *args], capture_output=True, text=True, timeout=30)


def changed(servers, tmp_path, old, new):
    numbers = servers.own
    old, new = old.format(**numbers), new.format(**numbers)
    text = servers.node.conf.read_text()
    assert old in text, old
    conf = tmp_path / "mailhaul.yaml"
    conf.write_text(text.replace(old, new, 1))
    return conf


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_file_and_line(servers, tmp_path, mistake):
    old, new, on_line, word = MISTAKES[mistake]
    conf = changed(servers, tmp_path, old, new)
    for program, args in (("mailhauld", ["--check"]),
                          ("mailhauld", ["--foreground"]),
                          ("mailhaul", ["status"])):
        done = run(program, conf, *args)
        assert done.returncode == 2, (program, args, done)
        said = done.stderr.strip()
        assert len(said.splitlines()) == 1, said
        place = re.search(re.escape(str(conf)) + r":(\d+): (.+)", said)
        assert place, said
        line = conf.read_text().splitlines()[int(place[1]) - 1]
        assert on_line in line, (said, line)
        assert word in place[2], said


def test_a_good_configuration_is_good(servers):
    done = run("mailhauld", servers.node.conf, "--check")
    assert done.returncode == 0, done
    assert "good" in done.stdout and done.stderr == ""


def test_no_configuration_is_a_mistake_too(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        for program, args in (("mailhauld", ["--check"]),
                              ("mailhaul", ["status"])):
            done = run(program, path, *args)
            assert done.returncode == 2, done
            assert str(path) in done.stderr
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    done = run("mailhauld", empty, "--check")
    assert done.returncode == 2 and f"{empty}:1: " in done.stderr


# what the configuration names and this host has not -> the key that is told
NAMED = {"certificate": ("certificate: ", "certificate: /none", "certificate"),
         "key": ("  key: ", "  key: /none", "tls.key"),
         "ca_file": ("ca_file: ", "ca_file: /none", "tls.ca_file"),
         "user": ("node: ", "user: nobody-here\nnode: ", "user"),
         "owner": ("type: maildir", "type: maildir\n  owner: nobody-here",
                   "store.owner"),
         "doveadm": ("  dovecot: ", "  doveadm: [no-such-doveadm]\n  dovecot: ",
                     "provision.doveadm")}


@pytest.mark.parametrize("name", NAMED)
def test_the_check_looks_at_what_is_named(servers, tmp_path, name):
    old, new, key = NAMED[name]
    conf = changed(servers, tmp_path, old, new)
    text = conf.read_text()
    drop = {"user": "user: ", "owner": "  owner: ",
            "doveadm": "  doveadm: "}.get(name, "\0")
    conf.write_text("".join(
        line for line in text.splitlines(True)
        if not line.startswith(drop) or "no-such" in line
        or "nobody-here" in line))
    done = run("mailhauld", conf, "--check")
    assert done.returncode == 2, done
    assert done.stderr.startswith(f"{conf}: ") and key in done.stderr, done


def test_wrong_arguments_of_mailhauld_are_usage():
    for args in (["--no-such"], ["extra"], ["-c"]):
        done = subprocess.run([str(node.binaries() / "mailhauld"), *args],
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 2 and "usage" in done.stderr, done
    done = subprocess.run([str(node.binaries() / "mailhauld"), "--help"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "--check" in done.stdout


def newer(path):
    with sqlite3.connect(path) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version = {version + 1}")
    db.close()
    return version


@pytest.mark.parametrize("name", ["control.db", "dovecot/auth.db"])
def test_a_database_of_a_newer_version_is_not_opened(make_world, name):
    world = make_world(run=False, local_only=True)
    world.node.cli("init")
    path = world.folder / "state" / name
    version = newer(path)
    before = path.read_bytes()
    done = run("mailhauld", world.node.conf, "--foreground")
    said = done.stderr + world.log_tail()
    assert done.returncode != 0
    assert path.name in said and "newer" in said, said
    done = world.mailhaul("status", check=False)
    assert done.returncode == 1 and "newer" in done.stderr
    assert path.read_bytes() == before
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    world.run_node()
    assert world.mailhaul("status")["totals"]["accounts"] == 0


@pytest.mark.world(local_only=False, cutover="manual")
def test_a_ledger_of_a_newer_version_stops_its_account_only(world):
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    world.mailhaul("account", "pause", world.address("alice"))
    ledger, = (world.folder / "state").rglob("ledger.db")
    newer(ledger)
    world.mailhaul("account", "resume", world.address("alice"))
    row = world.wait_account("alice", last_error_kind="setup")
    assert "newer" in row["last_error"] and row["route"] == "legacy"
    # she reads on where she is, and others move
    world.imap("alice").logout()
    world.imap("bob").logout()
    world.wait_account("bob", copy="delta")
    stuck = world.mailhaul("status")["stuck"]
    assert [r["address"] for r in stuck] == [world.address("alice")]


def test_without_a_key_nothing_starts(make_world):
    world = make_world(run=False, local_only=True)
    world.node.cli("init")
    key = world.folder / "keys" / "mailhaul.key"
    kept = key.read_bytes()
    for wrong in (None, b"", kept[:-2]):
        key.unlink(missing_ok=True)
        if wrong is not None:
            key.write_bytes(wrong)
        done = run("mailhauld", world.node.conf, "--foreground")
        assert done.returncode != 0
        assert "mailhaul.key" in done.stderr, done.stderr


RESTARTS = {"state_dir": ("state_dir: ", "state_dir: /nowhere"),
            "store.path": ("/{domain}/{local}/", "/new/{domain}/{local}/"),
            "provision.dovecot": ("dovecot: ", "dovecot: /nowhere"),
            "database": ("sqlite:control.db", "sqlite:other.db"),
            "user": ("node: ", "user: nobody\nnode: ")}


def test_what_takes_a_restart_is_not_reloaded(make_world):
    """State would keep the old key while the other roles take the new one."""
    world = make_world(local_only=True)
    conf = world.node.conf
    good = conf.read_text()

    def refusals():
        return [line for line in world.node.log.read_text().splitlines()
                if "takes a restart" in line]

    logins = sorted(world.pids("login"))
    for count, (key, (old, new)) in enumerate(RESTARTS.items(), 1):
        assert old in good, key
        text = good.replace("\nuser: ", "\n# user: ") if key == "user" else good
        conf.write_text(text.replace(old, new, 1))
        world.hang_up()
        wait_until(lambda: len(refusals()) == count, 30, 0.05,
                   lambda: (key, world.log_tail()))
        assert f" {key} " in refusals()[-1] and str(conf) in refusals()[-1]
    assert sorted(world.pids("login")) == logins
    conf.write_text(good)
    world.hang_up()
    wait_until(lambda: set(world.pids("login")) - set(logins), 30)
    assert len(refusals()) == len(RESTARTS)
