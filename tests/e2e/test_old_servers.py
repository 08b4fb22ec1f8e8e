"""Old servers as they are found: quirks are lived with, faults are temporary
failures, and no password goes to a server that is not the one meant."""

import socket
import threading
import time

import pytest
from devservers import ca
from fakes.old_servers import OldImap, OldPop3
from lib.old_domains import (addresses, imap_answer, is_refusal, is_temporary,
                             pop3_answer, serve)
from lib.waiting import wait_until

WORLD = {"local_only": True, "login_processes": 1}
SECRET = "s3cret Pass"


@pytest.fixture(scope="module")
def certificates(shared_world):
    """Folder with good.pem, other-name.pem and unknown.pem."""
    folder = shared_world.folder / "old-ca"
    ca.make(folder)
    ca.issue(folder, "unknown")
    ca.issue(shared_world.ca, "other-name", "DNS:elsewhere.test")
    ca.issue(shared_world.ca, "good")
    return {"unknown": folder / "unknown.pem",
            "other-name": shared_world.ca / "other-name.pem",
            "good": shared_world.ca / "good.pem"}


def users_of(domain):
    return {f"ann@{domain}": SECRET}


# ---- what they can

NO_PLAIN = "IMAP4rev1"
WAYS = {
    # capabilities, password -> how the old server hears it
    "quoted": (NO_PLAIN, SECRET, "LOGIN"),
    "quotes in it": (NO_PLAIN, 'a"b\\c"', "LOGIN"),
    "8-bit by PLAIN": ("IMAP4rev1 AUTH=PLAIN SASL-IR", "p\u00e4ss", "PLAIN "
                       "initial"),
    "8-bit, no SASL-IR": ("IMAP4rev1 AUTH=PLAIN", "p\u00e4ss", "PLAIN"),
    "8-bit, no PLAIN": (NO_PLAIN, "p\u00e4ss", "LOGIN"),
    "8-bit, LITERAL+": (NO_PLAIN + " LITERAL+", "p\u00e4ss", "LOGIN"),
    "LOGINDISABLED": ("IMAP4rev1 AUTH=PLAIN LOGINDISABLED", SECRET, "PLAIN"),
    "LOGINDISABLED, SASL-IR": ("IMAP4rev1 LOGINDISABLED AUTH=PLAIN SASL-IR",
                               SECRET, "PLAIN initial"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_login_is_said_as_the_old_server_can_hear_it(shared_world, way):
    world = shared_world
    capabilities, password, how = WAYS[way]
    domain = f"way{list(WAYS).index(way)}.test"
    user = f"ann@{domain}"
    with OldImap({user: password}, capabilities) as old:
        serve(world, domain, old)
        with world.imap_wire() as wire:
            raw = password.encode()
            wire.send(f"t LOGIN {user} {{{len(raw)}+}}\r\n".encode() + raw +
                      b"\r\n")
            answer, _ = wire.finish("t")
            assert answer == b"OK logged in"
        assert old.logins[0] == (how, user, password, False)
        assert addresses(world, domain) == [user]


@pytest.mark.parametrize("greeting", [
    "* OK ready", "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready"])
def test_untagged_lines_before_the_ok_reach_the_client(shared_world, greeting):
    world = shared_world
    domain = f"before{len(greeting)}.test"
    before = ["* OK [ALERT] The server moves", "* CAPABILITY IMAP4rev1 IDLE"]
    with OldImap(users_of(domain), greeting=greeting, before=before) as old:
        serve(world, domain, old)
        answer, untagged, _ = imap_answer(world, f"ann@{domain}", SECRET)
        assert answer.startswith("OK")
        assert [line.decode() for line in untagged] == before


def test_no_way_to_log_in_is_temporary_and_sends_no_password(shared_world):
    world = shared_world
    with OldImap(users_of("noway.test"), "IMAP4rev1 LOGINDISABLED") as old:
        serve(world, "noway.test", old)
        assert is_temporary(imap_answer(world, "ann@noway.test", SECRET)[0])
        assert not old.has_heard(SECRET)


@pytest.mark.parametrize("has_user", [True, False])
def test_pop3_logs_in_by_user_or_plain(shared_world, has_user):
    world, domain = shared_world, f"pop{has_user}.test".lower()
    with OldPop3(users_of(domain), has_user=has_user) as old, \
            OldImap(users_of(domain)) as imap:
        serve(world, domain, imap, old)
        assert pop3_answer(world, f"ann@{domain}", SECRET)[0].startswith("+OK")
        assert old.logins[0][0] == ("USER" if has_user else "PLAIN")
        # proven over IMAP beside the session
        wait_until(lambda: addresses(world, domain) == [f"ann@{domain}"])
        assert is_refusal(pop3_answer(world, f"ann@{domain}", "no")[0])


# ---- TLS to them

@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_tls_to_a_server_whose_certificate_is_good(shared_world, certificates,
                                                   protocol, tls):
    world, domain = shared_world, f"good-{protocol}-{tls}.test"
    how = {"cert": certificates["good"], "implicit": tls == "implicit"}
    make = OldImap if protocol == "imap" else OldPop3
    with make(users_of(domain), **how) as old:
        serve(world, domain, tls=tls, **{protocol: old})
        ask = imap_answer if protocol == "imap" else pop3_answer
        answer, _, _ = ask(world, f"ann@{domain}", SECRET)
        assert answer.startswith(("OK", "+OK"))
        assert old.logins[0][3], "in clear"


@pytest.mark.parametrize("fault", ["unknown", "other-name"])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_no_password_goes_to_a_server_that_cannot_prove_its_name(
        shared_world, certificates, protocol, tls, fault):
    world, domain = shared_world, f"{fault}-{protocol}-{tls}.test"
    how = {"cert": certificates[fault], "implicit": tls == "implicit"}
    make = OldImap if protocol == "imap" else OldPop3
    with make(users_of(domain), **how) as old:
        serve(world, domain, tls=tls, **{protocol: old})
        ask = imap_answer if protocol == "imap" else pop3_answer
        assert is_temporary(ask(world, f"ann@{domain}", SECRET)[0])
        assert old.logins == [] and not old.has_heard(SECRET)
        assert b"ann@" not in old.heard
    assert addresses(world, domain) == []


def inject_imap(peer, tag):
    """Answers in clear to what will be asked inside TLS, where the true answer
    is no."""
    peer.send(f"{tag} OK begin\r\n* CAPABILITY IMAP4rev1\r\nC OK done\r\n"
              "L OK in\r\n")
    peer.start_tls()
    tag = peer.read_line().split()[0].decode()
    peer.send(f"* OK hello\r\n{tag} NO not today\r\n")
    peer.stall()


STRIPPED = {
    "NO": {"STARTTLS": "NO not today"},
    "BAD": {"STARTTLS": "BAD unknown command"},
    "injected": {"STARTTLS": inject_imap},
    "preauth": {},
}


@pytest.mark.parametrize("how", STRIPPED)
def test_starttls_that_is_stripped_or_injected_sends_no_password(
        shared_world, certificates, how):
    world, domain = shared_world, f"strip-{how.lower()}.test"
    greeting = "* PREAUTH welcome" if how == "preauth" else None
    with OldImap(users_of(domain), greeting=greeting, answers=STRIPPED[how],
                 cert=certificates["good"]) as old:
        serve(world, domain, old, tls="starttls")
        answer, _, _ = imap_answer(world, f"ann@{domain}", SECRET)
        assert is_temporary(answer), answer
        assert not old.has_heard(SECRET)
        assert (b"CAPABILITY" in old.heard) == (how == "injected")
    assert addresses(world, domain) == []


def inject_pop3(peer):
    peer.send("+OK begin\r\n+OK\r\n+OK logged in\r\n")
    peer.start_tls()
    peer.read_line()
    peer.line("-ERR [SYS/TEMP] not today")
    peer.stall()


@pytest.mark.parametrize("stls", ["-ERR unknown command", inject_pop3],
                         ids=["stripped", "injected"])
def test_stls_that_is_stripped_or_injected_sends_no_password(
        shared_world, certificates, stls):
    world = shared_world
    domain = f"stls-{'stripped' if isinstance(stls, str) else 'injected'}.test"
    with OldPop3(users_of(domain), {"STLS": stls},
                 cert=certificates["good"]) as old:
        serve(world, domain, pop3=old, tls="starttls")
        answer, _, _ = pop3_answer(world, f"ann@{domain}", SECRET)
        assert is_temporary(answer), answer
        assert not old.has_heard(SECRET)
        assert (b"USER" in old.heard) == (stls is inject_pop3)


# ---- what goes wrong there

def cut_after_greeting(peer):
    peer.line("* OK hello")
    peer.close()


def cut_in_the_answer(peer):
    peer.line("* OK [CAPABILITY IMAP4rev1] hello")
    tag = peer.read_line().split()[0]
    peer.send(tag + b" OK [CAPAB")
    peer.close()


def lie(peer):
    peer.line("* OK [CAPABILITY IMAP4rev1] hello")
    peer.read_line()
    peer.line("250 I am a mail server")
    peer.stall()


def another_protocol(peer):
    peer.line("220 ftp.example.test FTP ready")
    peer.stall()


def bye(peer):
    peer.line("* BYE [UNAVAILABLE] too many connections")
    peer.close()


def flood(peer):
    peer.line("* OK [CAPABILITY IMAP4rev1] hello")
    peer.read_line()
    while True:
        peer.send(b"* OK still here\r\n" * 4000)


def flood_without_lines(peer):
    peer.send(b"* OK ")
    while True:
        peer.send(b"x" * 65536)


TALKS = {f.__name__: f for f in (
    cut_after_greeting, cut_in_the_answer, lie, another_protocol, bye, flood,
    flood_without_lines)}
ANSWERS = ["NO [UNAVAILABLE] backend down", "NO [INUSE] locked",
           "NO [LIMIT] too many connections", "NO [SERVERBUG] oops",
           "BAD internal error", "BYE", "NO [THROTTLED] slow down",
           "NO [PRIVACYREQUIRED] use TLS"]


@pytest.mark.parametrize("fault", [*TALKS, *ANSWERS])
def test_trouble_over_imap_is_temporary(shared_world, fault):
    """Never a wrong password, and nothing is created."""
    world = shared_world
    domain = f"trouble{[*TALKS, *ANSWERS].index(fault)}.test"
    with OldImap(talks=TALKS.get(fault), on_login=lambda *_: fault) as old:
        serve(world, domain, old)
        answer, _, took_s = imap_answer(world, f"ann@{domain}", SECRET)
        assert is_temporary(answer), answer
        assert took_s < 20
        assert old.peers
    assert addresses(world, domain) == []


POP3_TROUBLE = {
    "-ERR [SYS/TEMP] later": "-ERR [SYS/TEMP]",
    "-ERR [SYS/PERM] broken": "-ERR [SYS/TEMP]",
    "-ERR [IN-USE] locked": "-ERR [IN-USE]",
    "-ERR [LOGIN-DELAY] wait": "-ERR [LOGIN-DELAY]",
    "?": "-ERR [SYS/TEMP]",
}


@pytest.mark.parametrize("said", POP3_TROUBLE)
def test_trouble_over_pop3_is_temporary(shared_world, said):
    world = shared_world
    domain = f"poptrouble{list(POP3_TROUBLE).index(said)}.test"
    with OldPop3(on_login=lambda *_: said) as old:
        serve(world, domain, pop3=old)
        answer = pop3_answer(world, f"ann@{domain}", SECRET)[0]
        assert answer.startswith(POP3_TROUBLE[said]), answer
    assert addresses(world, domain) == []


class Deaf:
    """A port that is taken, but on which nobody listens."""

    def __init__(self):
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]


def test_a_refused_connection_is_temporary(shared_world):
    world, deaf = shared_world, Deaf()
    serve(world, "deaf.test", deaf, deaf)
    for ask in (imap_answer, pop3_answer):
        answer, _, took_s = ask(world, "ann@deaf.test", SECRET)
        assert is_temporary(answer) and took_s < 20
    assert addresses(world, "deaf.test") == []


@pytest.mark.parametrize("answer", [
    "NO [AUTHENTICATIONFAILED] old server says no", "NO wrong",
    "NO [EXPIRED] change it", "NO [CONTACTADMIN] account is closed"])
def test_a_refusal_is_told_in_our_own_words(shared_world, answer):
    world, domain = shared_world, f"refusal{len(answer)}.test"
    with OldImap(on_login=lambda *_: answer) as old:
        serve(world, domain, old)
        said, untagged, _ = imap_answer(world, f"ann@{domain}", SECRET)
        assert said == "NO [AUTHENTICATIONFAILED] Invalid name or password"
        assert untagged == []
    assert addresses(world, domain) == []


def test_a_login_that_opens_no_inbox_makes_no_account(shared_world):
    """Exchange says OK to a wrong password, and NO to all that follows."""
    world = shared_world
    with OldImap(on_login=lambda *_: "OK logged in", answers={
            "EXAMINE": "NO not authenticated", "LIST": "NO"}) as old:
        serve(world, "exchange.test", old)
        answer, _, _ = imap_answer(world, "ann@exchange.test", "wrong")
        assert b"EXAMINE" in old.heard
        assert addresses(world, "exchange.test") == []
        with OldPop3(on_login=lambda *_: "+OK") as pop3:
            world.mailhaul("domain", "set", "exchange.test", "--pop3",
                           f"pop3://localhost:{pop3.port}")
            pop3_answer(world, "bob@exchange.test", "wrong")
            wait_until(lambda: old.heard.count(b"EXAMINE") >= 2)
            time.sleep(0.3)
        assert addresses(world, "exchange.test") == []


# ---- those who are slow

def stall(peer):
    peer.stall()


def stall_after_greeting(peer):
    peer.line("* OK hello")
    peer.stall()


def stall_in_the_answer(peer):
    peer.line("* OK [CAPABILITY IMAP4rev1] hello")
    peer.send(peer.read_line().split()[0] + b" O")
    peer.stall()


def drip(peer):
    peer.line("* OK [CAPABILITY IMAP4rev1] hello")
    peer.read_line()
    while True:
        peer.send(b"* OK wait\r\n")
        time.sleep(0.2)


def stall_in_pop3(peer):
    peer.line("+OK hello")
    peer.stall()


def test_a_slow_host_is_given_up_in_time_and_delays_nobody_else(shared_world):
    """Promise 10: meanwhile users of another host log in as ever."""
    world = shared_world
    answers = {}

    def ask(talk, ask_one, domain):
        answers[talk.__name__] = ask_one(world, f"ann@{domain}", SECRET)
    olds, threads = [], []
    for talk in (stall, stall_after_greeting, stall_in_the_answer, drip,
                 stall_in_pop3):
        domain = talk.__name__.replace("_", "-") + ".test"
        is_pop3 = talk is stall_in_pop3
        old = (OldPop3 if is_pop3 else OldImap)(talks=talk)
        olds.append(old)
        serve(world, domain, **{"pop3" if is_pop3 else "imap": old})
        threads.append(threading.Thread(target=ask, args=(
            talk, pop3_answer if is_pop3 else imap_answer, domain)))
    crowd = [threading.Thread(target=imap_answer, args=(
        world, f"user{n}@stall.test", SECRET)) for n in range(40)]
    for thread in threads + crowd:
        thread.start()
    wait_until(lambda: sum(len(old.peers) for old in olds) >= 45)
    with OldImap({f"u{n}@quick.test": SECRET for n in range(20)}) as quick:
        serve(world, "quick.test", quick)
        times = []
        for n in range(20):
            answer, _, took_s = imap_answer(world, f"u{n}@quick.test", SECRET)
            assert answer.startswith("OK")
            times.append(took_s)
        assert not answers, "they stall no more"
        assert max(times) < 10
    for thread in threads + crowd:
        thread.join(90)
    for old in olds:
        old.close()
    assert len(answers) == 5
    for name, (answer, _, took_s) in answers.items():
        assert is_temporary(answer), (name, answer)
        assert took_s < 65, name
