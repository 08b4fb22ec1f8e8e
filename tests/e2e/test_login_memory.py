"""Repeated logins to local by the master user, and the lines of a session."""

import re
import signal
import socket
import sqlite3
import ssl

import pytest

from lib.waiting import wait_until
from lib.wire import tls_context

WORLD = {"cutover": "auto", "more_users": 12, "trail_inbox_seconds": 300,
         "trail_seconds": 600, "delta_seconds": 1}

PAIR = re.compile(r'([a-z_]+)=("[^"]*"|\S+)')


@pytest.fixture(scope="module")
def user(shared_world):
    """A user after the other who lives on local, never logged in there."""
    numbers = iter(range(1, 13))

    def move():
        name = f"user{next(numbers):03}"
        shared_world.move(name)
        shared_world.wait_account(name, provisioned=True)
        return name
    return move


def lines(world, event, **wanted):
    """Lines of that event as dicts, in order of time."""
    found = []
    for line in world.node.log.read_text(errors="replace").splitlines():
        _, mark, rest = line.partition(f" info {event} ")
        if mark:
            pairs = {k: v.strip('"') for k, v in PAIR.findall(rest)}
            if all(pairs.get(k) == v for k, v in wanted.items()):
                found.append(pairs)
    return found


def ways(world, name):
    """How each login of the user to local went: "password" or "master"."""
    return [line["by"] for line in lines(
        world, "login accepted", route="local", address=world.address(name))]


def set_password(world, name, password):
    """As an operator does; when the command has answered it counts."""
    secret = world.folder / "new-password"
    secret.write_text(password + "\n")
    world.mailhaul("account", "password", world.address(name), "--file",
                   str(secret))


def refused(world, name, password):
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED|-ERR"):
        world.imap(name, password=password)


def test_local_hashes_a_password_once(shared_world, user):
    world, name = shared_world, user()
    with world.imap(name) as imap:
        imap.append("INBOX", "", None, b"Subject: x\r\n\r\nx\r\n")
    for _ in range(6):  # whichever process they reach
        with world.imap(name) as imap:
            assert imap.select("INBOX")[1] == [b"1"]
    pop = world.pop3(name)
    assert pop.stat()[0] == 1
    pop.quit()
    wait_until(lambda: len(ways(world, name)) == 8, 30)
    assert ways(world, name) == ["password"] + ["master"] * 7


def test_a_wrong_password_is_refused_beside_a_remembered_one(shared_world,
                                                             user):
    world, name = shared_world, user()
    for _ in range(3):
        world.imap(name).logout()
    for _ in range(2):
        refused(world, name, "guessed")
    with pytest.raises(Exception, match="-ERR"):
        world.pop3(name, password="guessed")
    world.imap(name).logout()
    other = user()
    refused(world, other, world.password(name))


def test_a_changed_password_is_not_outlived(shared_world, user):
    """In no process, and at once."""
    world, name = shared_world, user()
    for _ in range(6):
        world.imap(name).logout()
    wait_until(lambda: "master" in ways(world, name), 30)
    for count in range(2):
        old = world.password(name) if count == 0 else f"new-{count - 1}"
        new = f"new-{count}"
        set_password(world, name, new)
        for _ in range(2):
            refused(world, name, old)
        for _ in range(4):
            world.imap(name, password=new).logout()


def test_who_is_put_out_of_local_is_not_let_in_by_the_master(shared_world,
                                                             user):
    world, name = shared_world, user()
    for _ in range(2):
        world.imap(name).logout()
    world.mailhaul("domain", "set", world.settings.domain, "--learn-days", "0")
    with sqlite3.connect(world.settings.auth_db, timeout=10) as db:
        db.execute("UPDATE users SET active = 0 WHERE username = ?",
                   (world.address(name),))
    db.close()
    refused(world, name, world.password(name))


def test_without_a_good_master_password_users_get_in(shared_world, user):
    """Last but one: a reload with another secret, and back."""
    world, name = shared_world, user()
    secret = world.node.folder / "local-master"
    good = secret.read_text()
    world.imap(name).logout()
    try:
        secret.write_text("not this one\n")
        before = world.pids("login")
        world.hang_up()
        wait_until(lambda: not set(before) & set(world.pids("login")), 30)
        for _ in range(4):
            world.imap(name).logout()
        assert set(ways(world, name)) == {"password"}
        log = world.node.log.read_text(errors="replace")
        warned = [x for x in log.splitlines()
                  if " warn login master=" in x]
        assert 1 <= len(warned) <= world.settings.login_processes
        assert "not this one" not in log and good.strip() not in log
    finally:
        secret.write_text(good)
        before = world.pids("login")
        world.hang_up()
        wait_until(lambda: not set(before) & set(world.pids("login")), 30)
    world.imap(name).logout()
    world.imap(name).logout()
    wait_until(lambda: ways(world, name)[-1] == "master", 30)


def test_what_is_remembered_outlives_a_login_process(shared_world, user):
    world, name = shared_world, user()
    world.imap(name).logout()
    world.kill("login", signal.SIGKILL)
    wait_until(lambda: len(world.pids("login")) ==
               world.settings.login_processes, 30)

    def by_master():
        try:
            world.imap(name).logout()
        except (OSError, EOFError):
            return False
        return ways(world, name)[-1:] == ["master"]
    wait_until(by_master, 30)
    assert ways(world, name).count("password") == 1


def test_the_lines_of_a_session_tell_everything(shared_world, user):
    world, name = shared_world, user()
    typed = name.upper() + "+tag@Example.test"
    context = tls_context(world.ca_file)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", world.own["imaps"]), 30)
    client = context.wrap_socket(plain, server_hostname="mx.customer.test")
    here = client.getsockname()
    stream = client.makefile("rwb")

    def say(text):
        stream.write(text.encode("latin-1") + b"\r\n")
        stream.flush()
        while True:
            line = stream.readline()
            assert line, "closed"
            if line.startswith(b"a "):
                return line
    stream.readline()
    say('a ID ("name" "Post \x07 Taube" "version" "1.0" "os" NIL)')
    assert b"NO" in say(f'a LOGIN {typed} "wrong one"')
    assert b"OK" in say(f'a LOGIN {typed} {world.password(name)}')
    say("a NOOP")
    say("a LOGOUT")
    client.close()
    port = str(here[1])
    wait_until(lambda: lines(world, "session end", port=port), 30)
    end, = lines(world, "session end", port=port)
    bad, = lines(world, "login refused", port=port)
    good, = lines(world, "login accepted", port=port)
    assert end["session"] == good["session"] == bad["session"]
    for line in (end, good, bad):
        assert line["protocol"] == "imap" and line["ip"] == "127.0.0.1"
        assert line["own_ip"] == "127.0.0.1"
        assert line["own_port"] == str(world.own["imaps"])
        assert line["tls"] == "TLSv1.3" and line["cipher"].startswith("TLS_")
        assert line["sni"] == "mx.customer.test"
        assert line["user"] == typed
        assert line["address"] == world.address(name)
        assert line["client"] == "name=Post\\x20\\x07\\x20Taube,version=1.0"
        assert line["mechanism"] == "IMAP-LOGIN"
        assert line["route"] == "local"
        assert line["server"] == f"localhost:{world.local['imap']}"
    assert good["by"] == "password" and good["server_ip"] in ("127.0.0.1",
                                                              "::1")
    assert bad["reason"] == "denied"
    assert int(end["in"]) > 0 and int(end["out"]) > 0
    assert end["reason"] in ("client-closed", "server-closed")
    log = world.node.log.read_text(errors="replace")
    assert "wrong one" not in log and world.password(name) not in log


def test_each_session_has_an_id_of_its_own(shared_world, user):
    world, name = shared_world, user()
    for _ in range(3):
        world.imap(name).logout()
        world.pop3(name).quit()
    ids = [line["session"] for line in lines(world, "session end")]
    assert len(ids) > 20 and len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", x) for x in ids)
