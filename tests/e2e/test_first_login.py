"""Who may log in through mailhaul, how, and what becomes of it."""

import base64
import imaplib
import poplib
import threading

import pytest

from lib.waiting import wait_until
from lib.wire import ImapWire

WORLD = {"cutover": "manual"}


def plain(user, password):
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def ways_of_imap(world, user, password):
    """Name -> the lines of a login, each sent after a "+" of the server."""
    literal = [f"t LOGIN {{{len(user)}}}", f"{user} {{{len(password)}}}",
               password]
    return {
        "quoted": [f't LOGIN "{user}" "{password}"'],
        "atoms": [f"t LOGIN {user} {password}"],
        "literal": literal,
        "non-synchronising literal": [
            f"t LOGIN {{{len(user)}+}}\r\n{user} {{{len(password)}+}}\r\n"
            f"{password}"],
        "PLAIN": ["t AUTHENTICATE PLAIN", plain(user, password)],
        "PLAIN initial": [f"t AUTHENTICATE PLAIN {plain(user, password)}"],
        "LOGIN": ["t AUTHENTICATE LOGIN",
                  base64.b64encode(user.encode()).decode(),
                  base64.b64encode(password.encode()).decode()],
    }


WAYS = list(ways_of_imap(None, "", ""))


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
@pytest.mark.parametrize("way", WAYS)
def test_imap_logs_in(shared_world, way, tls):
    world = shared_world
    lines = ways_of_imap(world, world.address("alice"), "pw-alice")[way]
    with world.imap_wire(tls=tls) as wire:
        for line in lines[:-1]:
            wire.line(line)
            assert wire.read_line().startswith(b"+")
        wire.line(lines[-1])
        answer, _ = wire.finish("t")
        assert answer.startswith(b"OK"), answer
        assert wire.ok("SELECT INBOX")


@pytest.mark.parametrize("way", WAYS)
def test_imap_refuses_a_wrong_password(shared_world, way):
    world = shared_world
    lines = ways_of_imap(world, world.address("carol"), "wrong")[way]
    with world.imap_wire() as wire:
        for line in lines[:-1]:
            wire.line(line)
            assert wire.read_line().startswith(b"+")
        wire.line(lines[-1])
        answer, _ = wire.finish("t")
        assert answer.startswith(b"NO"), answer
        assert b"UNAVAILABLE" not in answer
    assert world.account("carol") is None


def pop3_lines(way, user, password):
    return {"USER": [f"USER {user}", f"PASS {password}"],
            "PLAIN": ["AUTH PLAIN", plain(user, password)],
            "PLAIN initial": [f"AUTH PLAIN {plain(user, password)}"]}[way]


@pytest.mark.parametrize("way", ["USER", "PLAIN", "PLAIN initial"])
@pytest.mark.parametrize("password", ["pw-bob", "wrong"])
def test_pop3_logs_in_or_refuses(shared_world, way, password):
    world = shared_world
    with world.wire("pop3") as wire:
        assert wire.read_line().startswith(b"+OK")
        lines = pop3_lines(way, world.address("bob"), password)
        for line in lines[:-1]:
            wire.line(line)
            assert wire.read_line()[:1] == b"+"
        wire.line(lines[-1])
        answer = wire.read_line()
        if password == "wrong":
            assert answer.startswith(b"-ERR") and b"SYS" not in answer
        else:
            assert answer.startswith(b"+OK"), answer
            wire.line("STAT")
            assert wire.read_line().startswith(b"+OK ")


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_pop3_logs_in_with_tls(shared_world, tls):
    pop = shared_world.pop3("bob", tls=tls)
    assert pop.stat()[0] >= 0
    pop.quit()


def test_commands_before_the_login_are_answered(shared_world):
    with shared_world.imap_wire() as wire:
        assert any(b"IMAP4rev1" in r for r in wire.ok("CAPABILITY"))
        assert any(r.startswith(b"* ID ") for r in
                   wire.ok('ID ("name" "test")'))
        wire.ok("NOOP")
        answer, _ = wire.command("SELECT INBOX")
        assert answer.startswith((b"BAD", b"NO"))
        assert any(b"BYE" in r for r in wire.ok("LOGOUT"))
        assert wire.is_closed(2)
    with shared_world.wire("pop3") as wire:
        wire.read_line()
        wire.line("CAPA")
        assert wire.read_line().startswith(b"+OK")
        capabilities = []
        while (line := wire.read_line()) != b".":
            capabilities.append(line)
        assert b"UIDL" in capabilities and b"STLS" in capabilities
        wire.line("QUIT")
        assert wire.read_line().startswith(b"+OK")


def test_commands_pipelined_behind_the_login_are_answered_in_order(
        shared_world):
    world = shared_world
    with world.imap_wire() as wire:
        wire.send(f"a LOGIN {world.address('alice')} pw-alice\r\n"
                  "b SELECT INBOX\r\nc NOOP\r\nd LOGOUT\r\n")
        tags = []
        while len(tags) < 4:
            line = wire.read_response()
            if line[:2] in (b"a ", b"b ", b"c ", b"d "):
                assert line[2:4] == b"OK", line
                tags.append(line[:1])
        assert tags == [b"a", b"b", b"c", b"d"]


def test_what_is_sent_in_clear_behind_starttls_is_never_used(shared_world):
    world = shared_world
    with world.imap_wire() as wire:
        wire.send(f"a STARTTLS\r\nb LOGIN {world.address('alice')} pw-alice"
                  "\r\n")
        try:
            assert wire.read_line().startswith(b"a OK")
            wire.pending = b""
            wire.start_tls()
            answer, untagged = wire.command("SELECT INBOX")
        except (OSError, EOFError):
            return  # refusing the connection is as good
        assert not answer.startswith(b"OK") and not untagged


@pytest.mark.parametrize("name", [
    "../alice@example.test", "a/b@example.test", "alice@elsewhere.test",
    "@example.test", "nobody", "x" * 3000, "%u@example.test"])
def test_names_that_are_no_user_are_refused(shared_world, name):
    with shared_world.imap_wire() as wire:
        answer, _ = wire.command(f'LOGIN "{name}" "pw"')
        assert answer.startswith((b"NO", b"BAD")), answer
        assert b"UNAVAILABLE" not in answer


@pytest.mark.parametrize("byte", [b"\0", b"\r", b"\n"])
def test_control_characters_in_a_password_reach_no_backend(shared_world, byte):
    password = b"pw-al" + byte + b"ice"
    with shared_world.imap_wire() as wire:
        wire.line(b"t LOGIN alice@example.test {%d+}\r\n" % len(password)
                  + password)
        answer, _ = wire.finish("t")
        assert answer.startswith((b"NO", b"BAD"))


@pytest.mark.parametrize("protocol", ["imap", "imaps", "pop3", "pop3s"])
def test_a_client_that_sends_without_end_before_its_login_is_cut(
        shared_world, protocol):
    with shared_world.wire(protocol) as wire:
        wire.read_line()
        with pytest.raises(OSError) as cut:
            for _ in range(64):
                wire.send(b"x" * 65536)
            wire.read_to_end()
            raise ConnectionResetError("closed in order")
        assert not isinstance(cut.value, TimeoutError)


def test_a_user_has_one_account_however_it_is_spelt(shared_world):
    world = shared_world
    for name in ("dave@example.test", "Dave@Example.TEST",
                 "dave+tag@example.test"):
        with ImapWire(world.own["imap"]) as wire:
            wire.login(name, "pw-dave")
    rows = world.mailhaul("account", "list", "--domain", "example.test")
    rows = rows if isinstance(rows, list) else rows["accounts"]
    addresses = [r["address"] for r in rows]
    assert addresses.count("dave@example.test") == 1
    assert not any(a.lower().startswith("dave+") for a in addresses)


def test_legacy_down_is_temporary_and_nothing_is_created(make_world):
    world = make_world()
    world.stop("legacy-dovecot")
    with pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
        world.imap("alice")
    with pytest.raises(poplib.error_proto, match="SYS/TEMP|IN-USE"):
        world.pop3("alice")
    assert world.account("alice") is None
    world.start("legacy-dovecot")
    world.wait_ready("legacy-dovecot")
    wait_until(lambda: can_log_in(world, "alice"), 30, 0.5)


def can_log_in(world, user):
    try:
        world.imap(user).logout()
        return True
    except imaplib.IMAP4.error:
        return False


def test_two_first_logins_at_once_make_one_account(shared_world):
    world = shared_world
    failures = []

    def log_in():
        try:
            world.imap("erin").logout()
        except (imaplib.IMAP4.error, OSError) as e:
            failures.append(e)
    threads = [threading.Thread(target=log_in) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert world.account("erin")["route"] == "legacy"


def all_copied(world, users):
    rows = world.mailhaul("account", "list", "--domain", "example.test")
    rows = rows if isinstance(rows, list) else rows["accounts"]
    state = {r["address"]: r["copy"] for r in rows}
    return all(state.get(world.address(u)) == "delta" for u in users)


def test_no_password_is_in_a_log(shared_world):
    log = shared_world.node.log.read_text(errors="replace")
    assert "pw-alice" not in log and "pw-bob" not in log
    assert plain("alice@example.test", "pw-alice") not in log
