"""Logging in: in every order and packet a client may choose, under every
spelling, and without learning from a refusal who exists."""

import base64
import imaplib
import ssl
import time

import pytest
from fakes.old_servers import OldImap, OldPop3
from lib.old_domains import (addresses, imap_answer, is_refusal, pop3_answer,
                             serve)
from lib.waiting import together, wait_until
from lib.wire import ImapWire, Wire

WORLD = {"cutover": "manual", "more_users": 10}


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def plain(user, password):
    return encoded(f"\0{user}\0{password}")


def read_pop3_list(wire):
    lines = []
    while (line := wire.read_line()) != b".":
        lines.append(line)
    return lines


# ---- ways in that are not in test_first_login.py

@pytest.mark.parametrize("tls", ["none", "implicit"])
@pytest.mark.parametrize("has_initial", [False, True])
def test_authenticate_login(shared_world, has_initial, tls):
    world, user = shared_world, shared_world.address("alice")
    with world.imap_wire(tls=tls) as wire:
        if has_initial:
            wire.line(f"t authenticate login {encoded(user)}")
        else:
            wire.line("t AUTHENTICATE LOGIN")
            assert wire.read_line() == b"+ VXNlcm5hbWU6"
            wire.line(encoded(user))
        assert wire.read_line() == b"+ UGFzc3dvcmQ6"
        wire.line(encoded("pw-alice"))
        assert wire.finish("t")[0].startswith(b"OK")
        wire.ok("SELECT INBOX")


@pytest.mark.parametrize("has_initial", [False, True])
def test_pop3_auth_login(shared_world, has_initial):
    world, user = shared_world, shared_world.address("alice")
    with world.wire("pop3") as wire:
        wire.read_line()
        if has_initial:
            wire.line(f"AUTH LOGIN {encoded(user)}")
        else:
            wire.line("AUTH LOGIN")
            assert wire.read_line() == b"+ VXNlcm5hbWU6"
            wire.line(encoded(user))
        assert wire.read_line() == b"+ UGFzc3dvcmQ6"
        wire.line(encoded("pw-alice"))
        assert wire.read_line().startswith(b"+OK")


@pytest.mark.parametrize("line", [
    "AUTHENTICATE CRAM-MD5", "AUTHENTICATE XOAUTH2 abc",
    "AUTHENTICATE PLAIN =", "AUTHENTICATE PLAIN !!!!", "LOGIN alice",
    'LOGIN "alice@example.test" "pw" more', "LOGIN {3}x", "AUTHENTICATE"])
def test_a_login_that_is_none_leaves_the_connection_good(shared_world, line):
    world = shared_world
    with world.imap_wire() as wire:
        answer, _ = wire.command(line)
        assert answer.startswith((b"BAD", b"NO")), answer
        world_user = world.address("alice")
        assert wire.login(world_user, "pw-alice") is not None


@pytest.mark.parametrize("way", ["AUTHENTICATE PLAIN", "AUTHENTICATE LOGIN"])
def test_an_exchange_can_be_cancelled(shared_world, way):
    world = shared_world
    with world.imap_wire() as wire:
        wire.line(f"t {way}")
        assert wire.read_line().startswith(b"+")
        wire.line("*")
        assert wire.finish("t")[0].startswith(b"BAD")
        wire.login(world.address("alice"), "pw-alice")
    with world.wire("pop3") as wire:
        wire.read_line()
        wire.line(way.replace("ENTICATE", ""))
        wire.read_line()
        wire.line("*")
        assert wire.read_line().startswith(b"-ERR")
        wire.line(f"AUTH PLAIN {plain(world.address('alice'), 'pw-alice')}")
        assert wire.read_line().startswith(b"+OK")


def test_three_tries_and_the_good_one_may_be_the_last(shared_world):
    world, user = shared_world, shared_world.address("alice")
    with world.imap_wire() as wire:
        for _ in range(2):
            answer, _ = wire.command(f"LOGIN {user} wrong")
            assert answer.startswith(b"NO [AUTHENTICATIONFAILED]")
        wire.login(user, "pw-alice")
    with world.imap_wire() as wire:
        for _ in range(3):
            wire.command(f"LOGIN {user} wrong")
        assert b"BYE" in wire.read_to_end()


# ---- before a login

def test_commands_before_a_login_are_refused_in_any_case(shared_world):
    with shared_world.imap_wire() as wire:
        capabilities = wire.ok("capability")[0].split()
        assert {b"STARTTLS", b"AUTH=PLAIN", b"AUTH=LOGIN", b"SASL-IR",
                b"LITERAL+", b"ID"} <= set(capabilities)
        assert wire.ok('ID ("name" "x" "version" NIL)') == [b"* ID NIL"]
        assert wire.ok("id NIL")
        for command in ("SELECT INBOX", "LIST \"\" *", "IDLE", "APPEND a {3+}"
                        "\r\nabc", "ENABLE QRESYNC", "XYZZY", "UID FETCH 1 X",
                        "COMPRESS DEFLATE", "UNAUTHENTICATE"):
            assert wire.command(command)[0].startswith(b"BAD"), command
        wire.ok("Noop")
        assert wire.ok("Logout")[0].startswith(b"* BYE")
        assert wire.is_closed(5)
    with shared_world.wire("pop3") as wire:
        wire.read_line()
        for command in ("STAT", "LIST", "RETR 1", "UIDL", "APOP a b", "XYZZY",
                        "PASS before-user"):
            wire.line(command)
            assert wire.read_line().startswith(b"-ERR"), command
        wire.line("auth")
        assert wire.read_line().startswith(b"+OK")
        assert read_pop3_list(wire) == [b"PLAIN", b"LOGIN"]
        wire.line("quit")
        assert wire.read_line().startswith(b"+OK")
        assert wire.is_closed(5)


def test_no_password_is_taken_in_clear_where_tls_is_asked(make_world):
    world = make_world(run=False)
    conf = world.node.conf
    conf.write_text(conf.read_text().replace(", plain_auth: true", ""))
    world.node.cli("init")
    world.add_domain()
    world.run_node()
    user = world.address("alice")
    with world.imap_wire() as wire:
        assert b"LOGINDISABLED" in wire.greeting
        assert b"AUTH=" not in wire.greeting
        for command in (f"LOGIN {user} pw-alice",
                        f"AUTHENTICATE PLAIN {plain(user, 'pw-alice')}",
                        "AUTHENTICATE PLAIN", "AUTHENTICATE LOGIN"):
            assert wire.command(command)[0].startswith(
                b"NO [PRIVACYREQUIRED]"), command
        wire.secure()
        said = wire.ok("CAPABILITY")[0]
        assert b"LOGINDISABLED" not in said and b"STARTTLS" not in said
        assert b"AUTH=PLAIN" in said
        assert wire.command("STARTTLS")[0].startswith(b"BAD")
        wire.login(user, "pw-alice")
    with world.wire("pop3") as wire:
        wire.read_line()
        wire.line("CAPA")
        capabilities = read_pop3_list(wire)
        assert b"STLS" in capabilities and b"USER" not in capabilities
        assert not any(line.startswith(b"SASL") for line in capabilities)
        for command in (f"USER {user}", "PASS pw-alice", "AUTH PLAIN",
                        f"AUTH PLAIN {plain(user, 'pw-alice')}"):
            wire.line(command)
            assert wire.read_line().startswith(b"-ERR"), command
        wire.line("STLS")
        wire.read_line()
        wire.start_tls()
        wire.line(f"USER {user}")
        assert wire.read_line().startswith(b"+OK")
        wire.line("PASS pw-alice")
        assert wire.read_line().startswith(b"+OK")
    for side in ("imaps", "pop3s"):
        with world.wire(side) as wire:
            assert b"LOGINDISABLED" not in wire.read_line()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_our_certificate_is_the_one_that_was_configured(shared_world):
    world = shared_world
    for tls in ("starttls", "implicit"):
        with world.imap_wire(tls=tls) as wire:
            subject = dict(x[0] for x in wire.sock.getpeercert()["subject"])
            assert subject == {"commonName": "mailhaul"}
            assert wire.sock.version() in ("TLSv1.2", "TLSv1.3")
    with world.smtp(tls=True) as smtp:
        assert smtp.sock.getpeercert()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError), world.wire("pop3") as wire:
        wire.read_line()
        wire.line("STLS")
        wire.read_line()
        old.wrap_socket(wire.sock)


# ---- behind it

def tagged(wire, count):
    """The first words of `count` tagged answers."""
    found = []
    while len(found) < count:
        response = wire.read_response()
        if response[:1] not in b"*+":
            found.append(b" ".join(response.split()[:2]).decode())
    return found


def imap_logins(user, password):
    return {
        "LOGIN": f"a LOGIN {user} {password}\r\n",
        "literals": f"a LOGIN {{{len(user)}+}}\r\n{user} {{{len(password)}+}}"
                    f"\r\n{password}\r\n",
        "PLAIN": f"a AUTHENTICATE PLAIN {plain(user, password)}\r\n"}


BEHIND = ("b SELECT INBOX\r\nc UID FETCH 1:* (FLAGS)\r\n"
          "d APPEND INBOX {5+}\r\nx:\r\ny\r\ne NOOP\r\nf LOGOUT\r\n")
INSIDE = ["a OK", "b OK", "c OK", "d OK", "e OK", "f OK"]


@pytest.mark.parametrize("way", ["LOGIN", "literals", "PLAIN"])
@pytest.mark.parametrize("tls", ["none", "starttls"])
def test_commands_in_one_packet_with_the_login_are_done_in_order(
        shared_world, way, tls):
    """On legacy and, after the flip, on local."""
    world = shared_world
    user = world.address(f"user00{list(imap_logins('', '')).index(way) + 1}")
    login = imap_logins(user, world.password(user))[way]
    for route in ("legacy", "local"):
        with world.imap_wire(tls=tls) as wire:
            wire.send(login + BEHIND)
            assert tagged(wire, 6) == INSIDE
            assert wire.read_to_end() == b""
        if route == "legacy" and world.account(user)["route"] == "legacy":
            world.wait_account(user, copy="delta")
            world.mailhaul("cutover", user)
            world.wait_account(user, route="local")


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_login_and_what_follows_may_come_in_any_pieces(shared_world, cut):
    world, user = shared_world, shared_world.address("user004")
    raw = imap_logins(user, "pw-user004")["literals"] + BEHIND
    with world.imap_wire() as wire:
        for n in range(0, len(raw), cut):
            wire.send(raw[n:n + cut])
            if cut == 1 and n % 10 == 0:
                time.sleep(0.001)
        assert tagged(wire, 6) == INSIDE


def test_pop3_commands_in_one_packet_with_the_login(shared_world):
    world, user = shared_world, shared_world.address("user005")
    for lines in (f"USER {user}\r\nPASS pw-user005\r\n",
                  f"AUTH PLAIN {plain(user, 'pw-user005')}\r\n"):
        with world.wire("pop3") as wire:
            wire.read_line()
            wire.send("CAPA\r\n" + lines + "NOOP\r\nSTAT\r\nQUIT\r\n")
            assert wire.read_line().startswith(b"+OK")
            assert b"UIDL" in read_pop3_list(wire)
            rest = wire.read_to_end().split(b"\r\n")
            assert all(line.startswith(b"+OK") for line in rest[:-1]), rest
            assert len(rest) == len(lines.splitlines()) + 3 + 1


def test_what_follows_a_refused_login_is_still_answered(shared_world):
    world, user = shared_world, shared_world.address("user006")
    with world.imap_wire() as wire:
        wire.send(f"a LOGIN {user} wrong\r\nb SELECT INBOX\r\nc NOOP\r\n"
                  f"d LOGIN {user} pw-user006\r\ne SELECT INBOX\r\n")
        assert tagged(wire, 5) == ["a NO", "b BAD", "c OK", "d OK", "e OK"]
    with world.wire("pop3") as wire:
        wire.read_line()
        wire.send(f"USER {user}\r\nPASS wrong\r\nSTAT\r\nUSER {user}\r\n"
                  "PASS pw-user006\r\nSTAT\r\n")
        said = [wire.read_line()[:1] for _ in range(6)]
        assert b"".join(said) == b"+--+++"


# ---- names

SPELLINGS = ["user007@example.test", "User007@Example.TEST",
             "USER007@EXAMPLE.TEST", "user007+tag@example.test",
             "User007+a+b@example.test", "user007@example.test."]


def test_all_spellings_of_a_user_are_one_account(shared_world):
    world = shared_world
    for name in SPELLINGS:
        assert imap_answer(world, name, "pw-user007")[0].startswith("OK"), name
        assert pop3_answer(world, name, "pw-user007")[0].startswith("+OK"), name
    rows = addresses(world, "example.test")
    assert [a for a in rows if "007" in a] == ["user007@example.test"]


def test_a_name_with_half_a_domain_is_refused(shared_world):
    world = shared_world

    def check(name):
        assert is_refusal(imap_answer(world, name, "pw-user008")[0])
        assert is_refusal(pop3_answer(world, name, "pw-user008")[0])
    together(check, ["user008@", "@example.test", "user008@example",
                     "user008@test", "user008@example.test@example.test"])
    assert "user008@example.test" not in addresses(world, "example.test")


def test_a_name_without_a_domain_is_of_the_only_one(shared_world):
    world = shared_world
    assert len(world.mailhaul("domain", "list")["domains"]) == 1
    for name in ("user008", "User008+tag", "user008@example.test"):
        assert imap_answer(world, name, "pw-user008")[0].startswith("OK")
    rows = addresses(world, "example.test")
    assert [a for a in rows if "008" in a] == ["user008@example.test"]
    with OldImap() as old:
        serve(world, "second.test", old)
        assert is_refusal(imap_answer(world, "user008", "pw-user008")[0])
        assert b"user008" not in old.heard
    world.mailhaul("domain", "remove", "second.test")


# ---- who may not

def test_an_unknown_domain_looks_like_a_wrong_password(shared_world):
    world = shared_world
    cases = {"wrong password": world.address("user009"),
             "unknown user": world.address("nobody-here"),
             "unknown domain": "user009@elsewhere.test",
             "no domain": "user009",
             "impossible name": "../user009@example.test"}
    for ask in (imap_answer, pop3_answer):
        seen = dict(zip(cases, together(
            lambda name: ask(world, name, "wrong"), cases.values())))
        assert len({answer for answer, _, _ in seen.values()}) == 1, seen
        assert is_refusal(seen["wrong password"][0])
        # none is told at once while another waits
        assert all(took_s > 0.9 for _, _, took_s in seen.values()), seen
    rows = addresses(world, "example.test")
    assert not any("009" in a or "nobody" in a for a in rows)


def test_a_domain_that_is_disabled_passes_users_and_records_nobody(
        shared_world):
    world = shared_world
    passwords = {"ann@off.test": "secret-1"}
    with OldImap(passwords) as old, OldPop3(passwords) as pop3:
        serve(world, "off.test", old, pop3)
        world.mailhaul("domain", "disable", "off.test")
        assert imap_answer(world, "ann@off.test", "secret-1")[0].startswith(
            "OK")
        assert pop3_answer(world, "ann@off.test", "secret-1")[0].startswith(
            "+OK")
        assert is_refusal(imap_answer(world, "ann@off.test", "wrong")[0])
        assert b"EXAMINE" not in old.heard
        assert addresses(world, "off.test") == []
        world.mailhaul("domain", "enable", "off.test")
        imap_answer(world, "ann@off.test", "secret-1")
        assert addresses(world, "off.test") == ["ann@off.test"]


def test_a_first_login_over_pop3_makes_the_account(shared_world):
    world = shared_world
    with Wire(world.own["pop3"]) as wire:
        wire.read_line()
        wire.send("USER bob@example.test\r\nPASS pw-bob\r\n")
        wire.read_line()
        assert wire.read_line().startswith(b"+OK")
        # while the session is open
        wait_until(lambda: world.account("bob"))
    row = world.wait_account("bob", copy="delta")
    assert (row["route"], row["password_state"]) == ("legacy", "learnt")


def test_a_client_that_goes_in_the_middle_of_its_login_harms_nobody(
        shared_world):
    world, user = shared_world, shared_world.address("user010")
    raw = f"a LOGIN {user} pw-user010\r\nb SELECT INBOX\r\n".encode()
    for length in range(1, len(raw) + 1, 3):
        with Wire(world.own["imap"]) as wire:
            wire.send(raw[:length])
    raw = f"USER {user}\r\nPASS pw-user010\r\nSTAT\r\n".encode()
    for length in range(1, len(raw) + 1, 3):
        with Wire(world.own["pop3s"]) as wire:
            wire.send(raw[:length])
    with ImapWire(world.own["imap"]) as wire:
        wire.login(user, "pw-user010")
    rows = addresses(world, "example.test")
    assert rows.count(user) == 1
    assert imaplib.IMAP4("localhost", world.own["imap"]).noop()[0] == "OK"
