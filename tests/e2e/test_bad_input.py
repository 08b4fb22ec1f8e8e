"""What hostile clients send reaches no old server, costs little memory, and is
never taken for something else."""

import base64
import re
import threading
from pathlib import Path

import pytest
from fakes.old_servers import OldImap, OldPop3, text
from lib.old_domains import addresses, imap_answer, pop3_answer, serve
from lib.waiting import together, wait_until
from lib.wire import ImapWire, Wire

WORLD = {"local_only": True, "login_processes": 1}
DOMAIN = "old.test"
PASSWORD = "right-1"
MARK = b"evil-mark"  # in all that must not get through


@pytest.fixture(scope="module")
def old(shared_world):
    passwords = {f"ann@{DOMAIN}": PASSWORD}
    with OldImap(passwords) as imap, OldPop3(passwords) as pop3:
        serve(shared_world, DOMAIN, imap, pop3)
        yield imap, pop3


@pytest.fixture(autouse=True)
def good_logins_go_on(shared_world, old):
    """After each test: a good login, and no old server saw anything evil."""
    yield
    assert imap_answer(shared_world, f"ann@{DOMAIN}", PASSWORD)[0].startswith(
        "OK")
    for server in old:
        assert not server.has_heard(MARK), server.heard[-500:]
    assert addresses(shared_world, DOMAIN) == [f"ann@{DOMAIN}"]


def b64(raw):
    return base64.b64encode(raw)


def imap_attempts(user, password):
    """Name -> lines; each but the last is answered by a '+'."""
    return {
        "literal": [b"t LOGIN {%d}" % len(user),
                    user + b" {%d}" % len(password), password],
        "non-synchronising": [b"t LOGIN {%d+}\r\n%s {%d+}\r\n%s" % (
            len(user), user, len(password), password)],
        "quoted": [b't LOGIN "%s" "%s"' % (user, password)],
        "PLAIN": [b"t AUTHENTICATE PLAIN",
                  b64(b"\0" + user + b"\0" + password)],
        "PLAIN initial": [b"t AUTHENTICATE PLAIN " +
                          b64(b"\0" + user + b"\0" + password)],
        "LOGIN": [b"t AUTHENTICATE LOGIN", b64(user), b64(password)],
    }


def pop3_attempts(user, password):
    return {
        "USER": [b"USER " + user, b"PASS " + password],
        "PLAIN": [b"AUTH PLAIN", b64(b"\0" + user + b"\0" + password)],
        "LOGIN": [b"AUTH LOGIN", b64(user), b64(password)],
    }


def refused_by_imap(world, lines):
    with world.imap_wire() as wire:
        for line in lines:
            wire.line(line)
            said = wire.read_line()
            if not said.startswith(b"+"):
                break
        # the end of a line in the middle makes more answers than one
        assert not re.search(rb"^\w+ OK", said, re.M), said
        assert b"UNAVAILABLE" not in said


def refused_by_pop3(world, lines):
    with world.wire("pop3") as wire:
        assert wire.read_line().startswith(b"+OK")
        for line in lines:
            wire.line(line)
            said = wire.read_line()
        assert said.startswith(b"-ERR"), said
        assert b"SYS" not in said


ANN = b"ann@old.test"
CONTROLS = [b"\0", b"\r", b"\n", b"\r\n", b"\r\nL OK x\r\n"]


@pytest.mark.parametrize("place", ["user", "password"])
@pytest.mark.parametrize("way", list(imap_attempts(b"", b"")))
def test_control_characters_reach_no_server_over_imap(shared_world, way,
                                                      place):
    def check(bad):
        user = ANN[:4] + MARK + bad + ANN[4:] if place == "user" else ANN
        password = MARK + bad + b"x" if place == "password" else b"x" + MARK
        if place == "user" or way != "quoted" or bad == b"\0":
            refused_by_imap(shared_world, imap_attempts(user, password)[way])
    together(check, CONTROLS)


@pytest.mark.parametrize("place", ["user", "password"])
@pytest.mark.parametrize("way", ["PLAIN", "LOGIN", "USER"])
def test_control_characters_reach_no_server_over_pop3(shared_world, way,
                                                      place):
    def check(bad):
        user = ANN[:4] + MARK + bad + ANN[4:] if place == "user" else ANN
        password = MARK + bad + b"x" if place == "password" else b"x"
        refused_by_pop3(shared_world, pop3_attempts(user, password)[way])
    together(check, CONTROLS if way != "USER" else [b"\0"])


NAMES = [b"../evil-mark@old.test", b"..@old.test", b"evil-mark/../x@old.test",
         b"%evil-mark@old.test", b"*evil-mark@old.test", b"evil-mark%u@old.test",
         b'evil-mark"@old.test', b"evil-mark\\@old.test",
         b"evil-mark @old.test", b"evil-mark@old.test/..",
         b"evil-mark@../old.test", b"evil-mark@old..test",
         b"evil-mark\xff@old.test", b"evil-mark\xc3@old.test",
         b"evil-mark\xed\xa0\x80@old.test", b"evil-mark\xc0\xaf@old.test",
         b"evil-mark\x7f@old.test", b"evil-mark\t@old.test",
         b"evil-mark:x@old.test", b"' OR 1=1 --evil-mark@old.test",
         b"evil-mark)(uid=*@old.test", b".+evil-mark@old.test",
         b"evil-mark" + b"x" * 300 + b"@old.test", b"evil-mark@" + b"x" * 300,
         b"evil-mark" * 5000 + b"@old.test", b"+evil-mark@old.test", b"", b"@"]


@pytest.mark.parametrize("way", ["non-synchronising", "PLAIN"])
def test_names_that_nobody_can_have_reach_no_server(shared_world, way):
    def check(name):
        with shared_world.imap_wire() as wire:
            for line in imap_attempts(name, b"pw")[way]:
                wire.line(line)
                said = wire.read_line()
                if not said.startswith(b"+"):
                    break
            assert re.match(rb"t (NO|BAD)|\* BYE", said), (name, said)
            assert b"UNAVAILABLE" not in said, name
    together(check, NAMES)
    stored = {p.name for p in Path(shared_world.folder).rglob("*evil*")}
    assert stored == set()


def test_names_that_nobody_can_have_reach_no_server_over_pop3(shared_world):
    def check(name):
        with shared_world.wire("pop3") as wire:
            wire.read_line()
            wire.line(b"AUTH PLAIN " + b64(b"\0" + name + b"\0pw"))
            said = wire.read_line()
            assert said.startswith(b"-ERR") and b"SYS" not in said, name
    together(check, NAMES)


@pytest.mark.parametrize("password", [
    b'"', b"\\", b'a"b\\"c', b"{5}", b"{5+}", b"(x", b" lead and trail ",
    b"p\xc3\xa4ss", b"\xff\xfe\x80", b"%n%s*", b"~", b"x" * 900])
def test_a_strange_password_arrives_whole(shared_world, old, password):
    """Quotes and braces are nobody's syntax once they are in a password."""
    world = shared_world
    for way, lines in imap_attempts(ANN, password).items():
        if way == "quoted":
            continue
        with world.imap_wire() as wire:
            for line in lines[:-1]:
                wire.line(line)
                assert wire.read_line().startswith(b"+")
            check, heard = old[0].on_login, []
            old[0].on_login = lambda _, user, word: heard.append(word) or \
                "NO [UNAVAILABLE] later"  # told at once
            try:
                wire.line(lines[-1])
                assert wire.read_line().startswith(b"t NO [UNAVAILABLE]")
            finally:
                old[0].on_login = check
            assert heard == [text(password)], way


@pytest.mark.parametrize("command", [
    b"t LOGIN {4294967296}", b"t LOGIN {-1}", b"t LOGIN {5 }", b"t LOGIN {}",
    b"t LOGIN {99999999999999999999}", b"t LOGIN {18446744073709551615+}",
    b"t LOGIN {0x10}", b"t LOGIN {10+", b"t LOGIN ~{5}", b"t LOGIN {20000}",
    b"t LOGIN {70000+}", b"t ID " + b"(" * 10000, b"t ID (" + b'"a" ' * 3000,
    b"t", b"", b" LOGIN a b", b"t\0LOGIN a b", b"+ LOGIN a b", b"* LOGIN a b",
    b"t" * 5000 + b" NOOP", b"t " + b"X" * 9000, b't LOGIN "a', b"\xff\xfe",
    b"t LOGIN a\x00b c", b'GET / HTTP/1.1\r\nHost: x\r\n'])
def test_broken_commands_are_bad_or_end_the_connection(shared_world, command):
    with shared_world.imap_wire() as wire:
        wire.send(command + b"\r\n" + b"n1 NOOP\r\nn2 LOGOUT\r\n")
        said = wire.read_to_end()
    assert b"OK logged in" not in said
    assert re.search(rb"^(\S+ (BAD|NO)|\* BYE)", said, re.M), said


@pytest.mark.parametrize("protocol", ["imap", "imaps", "pop3", "pop3s"])
@pytest.mark.parametrize("raw", [b"x", b"n NOOP\r\n", b"n ID (\"a\" \"",
                                 b"\r\n", b"\0", b"NOOP\r\n"])
def test_nobody_sends_more_than_64_kb_before_a_login(shared_world, protocol,
                                                     raw):
    """An endless line, endless commands, endless nothing."""
    with shared_world.wire(protocol) as wire:
        wire.sock.settimeout(60)
        wire.read_line()
        part = raw * (4096 // len(raw))
        sent = 0
        with pytest.raises((OSError, EOFError)):
            while sent < 40 << 20:
                wire.send(part)
                sent += len(part)
        # what is above 64 KB was in the kernel's buffers
        assert sent < 40 << 20


def rss_kb(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1])


def flood(world, protocol, raw, count):
    for _ in range(count):
        with Wire(world.own[protocol], wait_s=60) as wire:
            try:
                wire.read_line()
                while True:
                    wire.send(raw)
            except (OSError, EOFError):
                pass


def test_floods_do_not_make_a_login_process_grow(shared_world):
    world = shared_world
    pid, = world.pids("login")
    kinds = [("imap", b"x" * 65536), ("pop3", b"x" * 65536),
             ("imap", b"t LOGIN {60000+}\r\n" + b"y" * 60000),
             ("imap", b"t ID (" + b"(" * 60000),
             ("imap", b"t AUTHENTICATE PLAIN\r\n" + b"A" * 60000),
             ("pop3", b"AUTH PLAIN\r\n" + b"A" * 60000)]

    def run():
        threads = [threading.Thread(target=flood, args=(world, *kind, 5))
                   for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    run()
    before = rss_kb(pid)
    run()
    assert world.pids("login") == [pid]
    assert rss_kb(pid) < before + 4096
    # and many who say half a command and wait
    wires = []
    for _ in range(200):
        wires.append(Wire(world.own["imap"]))
        wires[-1].send(b"t LOGIN {15000+}\r\n" + b"z" * 14000)
    with ImapWire(world.own["imap"]) as wire:
        wire.ok("NOOP")
    assert rss_kb(pid) < before + 200 * 64 + 8192
    for wire in wires:
        wire.close()


def test_aborted_exchanges_do_not_make_a_login_process_grow(shared_world):
    world = shared_world
    pid, = world.pids("login")

    def round_of(count):
        for _ in range(count):
            with world.imap_wire() as wire:
                wire.send(b"a AUTHENTICATE PLAIN\r\n*\r\n" * 500)
                for _ in range(1000):
                    wire.read_line()
    round_of(3)
    before = rss_kb(pid)
    round_of(20)
    assert rss_kb(pid) < before + 1024


def test_garbage_of_some_does_not_harm_the_logins_of_others(shared_world):
    world = shared_world
    stop = threading.Event()

    def garbage():
        while not stop.is_set():
            try:
                with world.imap_wire() as wire:
                    wire.command(b"AUTHENTICATE PLAIN \xff\xfe====AAAA")
                    wire.line(b"t AUTHENTICATE LOGIN")
                    wire.read_line()
                    wire.line(b"A" * 3001 + b"\xff")
                    wire.read_line()
            except (OSError, EOFError):
                pass
    threads = [threading.Thread(target=garbage) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        assert imap_answer(world, f"ann@{DOMAIN}", PASSWORD)[0].startswith(
            "OK")
        assert pop3_answer(world, f"ann@{DOMAIN}", PASSWORD)[0].startswith(
            "+OK")
    stop.set()
    for thread in threads:
        thread.join()


# ---- what is said in clear is not heard after the handshake

INJECTED = {
    "imap": (b"a STARTTLS\r\n",
             [b"b NOOP\r\n", b"b LOGIN ann@old.test right-1\r\nc SELECT INBOX"
              b"\r\n", b"b LOG", b"b LOGIN {4}\r\n"]),
    "pop3": (b"STLS\r\n", [b"CAPA\r\n", b"USER ann@old.test\r\nPASS right-1\r\n",
                           b"QU", b"QUIT\r\n"]),
    "smtp": (b"STARTTLS\r\n", [b"NOOP\r\n", b"EHLO evil.test\r\n", b"QUIT\r\n",
                               b"MAIL FROM:<evil-mark@x.test>\r\n", b"QU"]),
}


@pytest.mark.parametrize("protocol", INJECTED)
@pytest.mark.parametrize("is_split", [False, True])
def test_what_is_sent_in_clear_behind_starttls_is_dropped(
        shared_world, old, protocol, is_split):
    command, behinds = INJECTED[protocol]
    for behind in behinds:
        logins = len(old[0].logins) + len(old[1].logins)
        with shared_world.wire(protocol) as wire:
            wire.read_line()
            if protocol == "smtp":
                wire.line("EHLO x.test")
                while wire.read_line()[3:4] == b"-":
                    pass
            if is_split:
                wire.send(command[:4])
                wire.send(command[4:] + behind)
            else:
                wire.send(command + behind)
            said = wire.read_line()
            assert said.startswith((b"a OK", b"+OK", b"220", b"5", b"4")), said
            assert wire.pending == b"", "an answer in clear"
            try:
                wire.start_tls()
            except OSError:
                continue  # ended: as good
            # the first answer inside TLS is to the first command inside
            try:
                if protocol == "imap":
                    answer, untagged = wire_command(wire, b"z NOOP")
                    assert answer.startswith(b"z OK") and untagged == []
                elif protocol == "pop3":
                    wire.line("NOOP-WITH-A-TYPO")
                    assert wire.read_line().startswith(b"-ERR")
                    wire.line("USER ann@old.test")
                    assert wire.read_line().startswith(b"+OK")
                else:
                    wire.line("HELP-WITH-A-TYPO")
                    assert wire.read_line()[:1] == b"5"
                    wire.line("MAIL FROM:<x@x.test>")
                    assert wire.read_line().startswith(b"503"), "EHLO is void"
            except EOFError:
                pass
        assert len(old[0].logins) + len(old[1].logins) == logins


def wire_command(wire, line):
    """(first line with the tag z, lines before it)."""
    wire.line(line)
    untagged = []
    while not (said := wire.read_line()).startswith(b"z "):
        untagged.append(said)
    return said, untagged


def test_a_name_said_in_clear_is_forgotten_by_stls(shared_world):
    with shared_world.wire("pop3") as wire:
        wire.read_line()
        wire.line("USER ann@old.test")
        wire.read_line()
        wire.line("STLS")
        wire.read_line()
        wire.start_tls()
        wire.line(f"PASS {PASSWORD}")
        assert wire.read_line().startswith(b"-ERR")


@pytest.mark.parametrize("protocol", ["imap", "imaps", "pop3", "pop3s", "smtp"])
def test_a_broken_handshake_ends_one_connection(shared_world, protocol):
    pids = shared_world.pids("login") + shared_world.pids("smtp")
    starts = {"imap": b"a STARTTLS\r\n", "pop3": b"STLS\r\n",
              "smtp": b"EHLO x\r\nSTARTTLS\r\n"}
    for garbage in (b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"GET / HTTP/1.0\r\n",
                    b"\0" * 100, b""):
        with Wire(shared_world.own[protocol]) as wire:
            if protocol in starts:
                wire.read_line()
                wire.send(starts[protocol])
                said = wire.read_line()
                while said.startswith(b"250") or said.startswith(b"220 mx"):
                    said = wire.read_line()
            try:
                wire.send(garbage)
                wire.sock.settimeout(1 if garbage == b"" else 20)
                wire.read_to_end()
            except OSError:
                pass
    assert shared_world.pids("login") + shared_world.pids("smtp") == pids
    wait_until(lambda: shared_world.smtp(tls=True).noop()[0] == 250)
