"""Conversations of the smtp role with clients, next hops and state. SMTP_ROLE
names the program built from tests/fakes/smtp_role.c."""

import hashlib
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from smtp_stage import Client, Hop, Role, State, free_port, wait_for  # noqa

BINARY = os.environ.get("SMTP_ROLE", "")
pytestmark = pytest.mark.skipif(not BINARY, reason="SMTP_ROLE is not set")

BODY = "Subject: hello\r\n\r\nline one\r\n..two"


class Stage:
    def __init__(self, folder, legacy=None, local=None, **options):
        self.state = State(folder / "state")
        self.legacy = legacy or Hop()
        self.local = local or Hop(lmtp=True)
        self.other = Hop()
        self.name("old@a.example", 1, "legacy")
        self.name("old2@a.example", 2, "legacy")
        self.name("new@a.example", 3, "local")
        self.name("new2@a.example", 4, "local")
        self.name("alias@a.example", 0, "pass")
        self.name("postmaster@a.example", 0, "pass")
        self.name("far@b.example", 5, "legacy", self.other.url)
        self.name("down@c.example", 6, "unavailable")
        self.role = Role(BINARY, folder, self.local.url, **options)
        self.clients = []

    def name(self, address, account, answer, smtp=None):
        self.state.table[address] = {
            "answer": answer, "account": account,
            "address": address if account else "",
            "smtp": smtp or self.legacy.url}

    def client(self, hello="EHLO client.example"):
        c = Client(self.role.port, hello)
        self.clients.append(c)
        return c

    def close(self):
        for c in self.clients:
            c.close()
        code = self.role.stop()
        for hop in (self.legacy, self.local, self.other):
            hop.close()
        self.state.close()
        log = (self.role.folder / "log").read_text(errors="replace")
        assert "ERROR:" not in log and "runtime error" not in log, log[-3000:]
        assert code in (0, -9), log[-3000:]


@pytest.fixture
def make(tmp_path):
    stages = []

    def build(**options):
        stages.append(Stage(tmp_path, **options))
        return stages[-1]

    yield build
    for stage in stages:
        stage.close()


def test_the_first_side_keeps_the_transaction(make):
    s = make()
    c = s.client()
    said, end = c.deliver("x@y.example", ["old@a.example", "new@a.example",
                                          "far@b.example"], BODY)
    assert [r[:9] for r in said] == ["250 2.1.5", "452 4.5.3", "452 4.5.3"]
    assert end.startswith("250 2.0.0 taken")
    said, end = c.deliver("x@y.example", ["new@a.example"], BODY)
    assert end[:3] == "250"
    assert s.legacy.copies("old@a.example") == 1
    assert s.local.copies("new@a.example") == 1
    text = s.legacy.messages[0][2].decode()
    assert text.endswith("line one\r\n.two\r\n")
    assert text.startswith("Received: from client.example ([127.0.0.1])")
    assert "X-Mailhaul-Hop: mx1.a.example\r\nSubject: hello\r\n" in text


def test_hello_offers_what_is_read_and_no_more(make):
    c = make(size=12345).client()
    assert c.hello.split("\n") == [
        "250-mx1.a.example", "250-PIPELINING", "250-SIZE 12345",
        "250-ENHANCEDSTATUSCODES", "250 8BITMIME"]
    assert c.cmd("MAIL FROM:<a@b> SIZE=12346")[:9] == "552 5.3.4"
    assert c.cmd("MAIL FROM:<a@b> SMTPUTF8")[:9] == "555 5.5.4"
    assert c.cmd("STARTTLS")[:3] == "502"


def test_who_is_not_ours_is_refused(make):
    s = make()
    c = s.client()
    c.cmd("MAIL FROM:<>")
    for path, code in [("x@elsewhere.example", "550 5.7.1"),
                       ("down@c.example", "451 4.3.0"),
                       ("old%elsewhere.example@a.example", "550 5.1.3"),
                       ("elsewhere.example!old@a.example", "550 5.1.3"),
                       ("\"old@elsewhere.example\"@a.example", "550 5.1.3"),
                       ("@a.example:x@elsewhere.example", "550 5.7.1"),
                       ("old@[127.0.0.1]", "550 5.1.3"),
                       ("old", "550 5.1.3"),
                       ("Postmaster", "250 2.1.5"),
                       ("@q.example:OLD+tag@A.example", "250 2.1.5")]:
        assert c.cmd(f"RCPT TO:<{path}>")[:9] == code, path
    assert "RCPT TO:<OLD+tag@A.example>" in s.legacy.lines
    assert "MAIL FROM:<>" in s.legacy.lines


@pytest.fixture(autouse=True)
def tags(monkeypatch):
    """State folds names as the real one does."""
    original = State.answer

    def answer(self, number, name, peer):
        local, _, domain = name.partition("@")
        return original(self, number, local.split("+")[0] + "@" + domain, peer)

    monkeypatch.setattr(State, "answer", answer)


def test_replies_of_the_hop_are_passed_through(make):
    s = make(legacy=Hop(**{
        "rcpt:old@a.example": "550-5.1.1 no such\n550 5.1.1 user",
        "rcpt:old2@a.example": "450 try later",
        "dot": "554 5.6.0 spam"}))
    c = s.client()
    said, end = c.deliver("x@y.example", ["old@a.example", "old2@a.example",
                                          "alias@a.example"], BODY)
    assert said == ["550-5.1.1 no such\n550 5.1.1 user",
                    "450 4.0.0 try later", "250 2.1.5 ok"]
    assert end == "554 5.6.0 spam"
    s.legacy.replies = {"mail": "552 5.3.4 too big"}
    c.cmd("MAIL FROM:<x@y.example> SIZE=77 BODY=8BITMIME")
    assert c.cmd("RCPT TO:<old@a.example>") == "552 5.3.4 too big"
    assert "MAIL FROM:<x@y.example> SIZE=77 BODY=8BITMIME" in s.legacy.lines
    s.legacy.replies = {"data": "451 4.3.0 full"}
    c.cmd("RSET")
    assert c.deliver("x@y.example", ["old@a.example"], BODY)[1] == \
        "451 4.3.0 full"


def test_a_side_that_refused_all_does_not_bind(make):
    s = make(legacy=Hop(rcpt="550 5.1.1 no"))
    said, end = s.client().deliver(
        "x@y.example", ["old@a.example", "new@a.example", "far@b.example"],
        BODY)
    assert [r[:3] for r in said] == ["550", "250", "452"]
    assert end[:3] == "250" and s.local.copies("new@a.example") == 1


def test_rset_and_hello_release_the_binding(make):
    s = make()
    c = s.client()
    for forget in ("RSET", "EHLO again.example"):
        c.cmd("MAIL FROM:<x@y.example>")
        assert c.cmd("RCPT TO:<old@a.example>")[:3] == "250"
        c.cmd(forget)
        said, end = c.deliver("x@y.example", ["new@a.example"],
                              BODY + forget)
        assert said[0][:3] == "250" and end[:3] == "250"
    assert s.legacy.messages == []


def test_everything_in_one_packet_is_answered_in_order(make):
    s = make()
    c = s.client()
    c.send("MAIL FROM:<x@y.example>\r\nRCPT TO:<old@a.example>\r\n"
           "RCPT TO:<new@a.example>\r\nDATA\r\n" + BODY + "\r\n.\r\n"
           "MAIL FROM:<>\r\nRCPT TO:<new@a.example>\r\nDATA\r\nx\r\n.\r\n"
           "QUIT\r\n")
    assert [c.reply()[:3] for _ in range(10)] == [
        "250", "250", "452", "354", "250", "250", "250", "354", "250", "221"]


def test_text_after_a_refused_data_is_never_a_command(make):
    s = make()
    c = s.client()
    c.send("MAIL FROM:<x@y.example>\r\nRCPT TO:<x@q.example>\r\nDATA\r\n"
           "MAIL FROM:<evil@y.example>\r\nRCPT TO:<old@a.example>\r\n")
    assert [c.reply()[:3] for _ in range(3)] == ["250", "550", "554"]
    with pytest.raises((EOFError, ConnectionError)):
        c.reply()
    assert s.legacy.lines == []


@pytest.mark.parametrize("text", [
    "a\n.\nMAIL FROM:<e@e>\r\n", "a\n.\r\nMAIL FROM:<e@e>\r\n",
    "a\r\n.\nMAIL FROM:<e@e>\r\n", "a\r.\rMAIL FROM:<e@e>\r\n",
    "a\r\n.\rMAIL FROM:<e@e>\r\n", "a\r\r\n.\r\r\nMAIL FROM:<e@e>\r\n"])
def test_nothing_but_crlf_dot_crlf_ends_a_message(make, text):
    s = make()
    c = s.client()
    for step in (1, 1000):
        c.cmd("MAIL FROM:<x@y.example>")
        c.cmd("RCPT TO:<old@a.example>")
        c.cmd("DATA")
        data = (text + ".\r\n").encode()
        for i in range(0, len(data), step):
            c.send(data[i:i + step])
        assert c.reply()[:3] == "250"
        assert b"MAIL FROM:<e@e>\r\n" in s.legacy.messages[-1][2]
    assert len(s.legacy.messages) == 2


CUTS = ["banner", "ehlo", "mail", "rcpt", "data", "dot"]


@pytest.mark.parametrize("step", CUTS)
@pytest.mark.parametrize("side", ["legacy", "local"])
def test_a_hop_cut_at_each_step_is_temporary_and_then_delivers(
        make, side, step):
    s = make()
    hop = getattr(s, side)
    who = {"legacy": "old@a.example", "local": "new@a.example"}[side]
    hop.replies = {step: None}
    said, end = s.client().deliver("x@y.example", [who], BODY)
    if step in ("data", "dot"):
        assert end[:3] == "451"
    else:
        assert said[0][:9] == "451 4.4.1" and end[:3] == "554"
    assert hop.messages == []
    hop.replies = {}
    assert s.client().deliver("x@y.example", [who], BODY)[1][:3] == "250"
    assert hop.copies(who) == 1


def test_a_hop_that_cannot_be_reached_delays_nobody_else(make):
    s = make()
    s.name("far@b.example", 5, "legacy", f"smtp://127.0.0.1:{free_port()}")
    c = s.client()
    c.cmd("MAIL FROM:<>")
    assert c.cmd("RCPT TO:<far@b.example>")[:9] == "451 4.4.1"
    assert c.cmd("RCPT TO:<old@a.example>")[:3] == "250"


def test_a_hop_cut_in_the_text_is_temporary(make):
    def cut(hop, h, body):
        if len(body) > 100000:
            raise OSError

    s = make(legacy=Hop(text=cut))
    body = "x" * 70 + "\r\n"
    said, end = s.client().deliver("x@y.example", ["old@a.example"],
                                   body * 20000)
    assert end[:9] == "451 4.4.2" and s.legacy.messages == []


def test_a_hop_that_refuses_in_the_text_is_heard(make):
    def refuse(hop, h, body):
        if len(body) > 100000:
            h.wfile.write(b"552 5.3.4 too much\r\n")
            h.wfile.flush()
            time.sleep(0.2)
            raise OSError

    s = make(legacy=Hop(text=refuse))
    body = "x" * 70 + "\r\n"
    said, end = s.client().deliver("x@y.example", ["old@a.example"],
                                   body * 20000)
    assert end == "552 5.3.4 too much"


def test_a_client_lost_in_the_text_delivers_nothing(make):
    s = make()
    c = s.client()
    c.cmd("MAIL FROM:<x@y.example>")
    c.cmd("RCPT TO:<old@a.example>")
    c.cmd("DATA")
    c.send("Subject: half\r\n\r\n" + "x\r\n" * 1000)
    c.close()
    s.clients.remove(c)
    assert wait_for(lambda: s.legacy.partial)
    assert s.legacy.messages == []
    assert not any(line in ("QUIT", "RSET") for line in s.legacy.lines)
    assert not s.legacy.partial[0].endswith(b"\r\n.\r\n")


def test_an_answer_lost_by_a_kill_is_not_delivered_again(make):
    s = make(local=Hop(lmtp=True, **{"dot:new2@a.example": "wait"}))
    c = s.client()
    c.cmd("MAIL FROM:<x@y.example>")
    c.cmd("RCPT TO:<new@a.example>")
    c.cmd("RCPT TO:<new2@a.example>")
    c.cmd("DATA")
    c.send(BODY + "\r\n.\r\n")
    assert wait_for(lambda: s.local.copies("new@a.example") == 1)
    journal = s.role.folder / "journal"
    assert wait_for(lambda: "taken" in journal.read_text())
    s.role.kill()
    s.local.gate.set()
    time.sleep(0.2)
    before = s.local.copies("new2@a.example")
    s.local.replies = {}
    s.role.start()
    rcpts = ["new@a.example", "new2@a.example"]
    assert s.client().deliver("x@y.example", rcpts, BODY)[1][:3] == "250"
    assert s.local.copies("new@a.example") == 1
    assert s.local.copies("new2@a.example") == before + 1


def test_a_client_gone_before_the_verdict_repeats_without_a_double(make):
    s = make(legacy=Hop(dot="wait"))
    c = s.client()
    c.cmd("MAIL FROM:<x@y.example>")
    c.cmd("RCPT TO:<old@a.example>")
    c.cmd("DATA")
    c.send(BODY + "\r\n.\r\n")
    time.sleep(0.3)
    d = s.client()
    # the same message on a second connection while the first is in doubt
    assert d.deliver("x@y.example", ["old@a.example"], BODY)[1][:9] == \
        "451 4.3.0"
    c.close()
    s.clients.remove(c)
    s.legacy.gate.set()
    assert wait_for(lambda: s.legacy.copies("old@a.example") == 1)
    time.sleep(0.2)
    s.legacy.replies = {}
    assert d.deliver("x@y.example", ["old@a.example"], BODY)[1] == \
        "250 2.0.0 Delivered before"
    assert s.legacy.copies("old@a.example") == 1
    assert d.cmd("NOOP")[:3] == "250"
    # what is sent anew after the 250 was read is a new message
    assert d.deliver("x@y.example", ["old@a.example"], BODY)[1][:3] == "250"
    assert s.legacy.copies("old@a.example") == 2
    # and so is another text, though the sender is under suspicion
    d.close()
    s.clients.remove(d)
    time.sleep(0.1)
    e = s.client()
    assert e.deliver("x@y.example", ["old@a.example"], BODY + "2")[1][:3] == \
        "250"
    assert s.legacy.copies("old@a.example") == 3


def send_with_dot(s, behind):
    """A message to old, its dot and more in one packet; the client."""
    c = s.client()
    c.cmd("MAIL FROM:<x@y.example>")
    c.cmd("RCPT TO:<old@a.example>")
    c.cmd("DATA")
    c.send(BODY + "\r\n.\r\n" + behind)
    return c


def journal_has(s, kind, seconds=2):
    journal = s.role.folder / "journal"
    return wait_for(lambda: f"{kind} " in journal.read_text(), seconds)


def test_who_closes_in_order_after_his_quit_has_read_the_verdict(make):
    s = make()
    c = send_with_dot(s, "QUIT\r\n")
    assert [c.reply()[:3] for _ in range(2)] == ["250", "221"]
    assert c.stream.read() == b""  # he need not wait for the timeout
    assert not journal_has(s, "told", 0.3)
    c.close()
    s.clients.remove(c)
    assert journal_has(s, "told")
    assert s.client().deliver("x@y.example", ["old@a.example"],
                              BODY)[1] == "250 2.0.0 taken"


def test_who_breaks_off_after_his_quit_may_not_have_read_the_verdict(make):
    s = make()
    c = send_with_dot(s, "QUIT\r\n")
    assert journal_has(s, "taken")
    # what he has not read makes his kernel reset the connection
    c.stream.close()
    c.socket.close()
    s.clients.remove(c)
    assert not journal_has(s, "told", 0.3)
    assert s.client().deliver("x@y.example", ["old@a.example"],
                              BODY)[1] == "250 2.0.0 Delivered before"
    assert s.legacy.copies("old@a.example") == 1


def test_a_command_behind_the_dot_is_no_proof_but_the_next_one_is(make):
    s = make()
    c = send_with_dot(s, "RSET\r\n")
    assert [c.reply()[:3] for _ in range(2)] == ["250", "250"]
    assert journal_has(s, "taken") and not journal_has(s, "told", 0.3)
    assert c.cmd("MAIL FROM:<x@y.example>")[:3] == "250"
    assert journal_has(s, "told")


def test_mixed_answers_are_repeated_to_those_who_have_not_had_it(make):
    s = make(local=Hop(lmtp=True, **{"dot:new2@a.example": "452 4.2.2 full"}))
    rcpts = ["new@a.example", "new2@a.example"]
    said, end = s.client().deliver("x@y.example", rcpts, BODY)
    assert end[:9] == "451 4.2.0"
    said, end = s.client().deliver("x@y.example", rcpts, BODY)
    assert end == "452 4.2.2 full"
    s.role.kill()
    s.role.start()
    s.local.replies = {}
    big = BODY + "\r\n" + "x" * 900000
    said, end = s.client().deliver("x@y.example", rcpts, big)
    assert end[:3] == "250"  # another message: both
    said, end = s.client().deliver("x@y.example", rcpts, BODY)
    assert end == "250 2.0.0 taken"
    assert s.local.copies("new@a.example") == 2
    assert s.local.copies("new2@a.example") == 2
    said, end = s.client().deliver("x@y.example", rcpts[:1], BODY)
    assert end == "250 2.0.0 Delivered before"


def test_all_refused_gives_the_worst_temporary_reply(make):
    s = make(local=Hop(lmtp=True, **{"dot:new@a.example": "550 5.2.0 never",
                                     "dot:new2@a.example": "452 4.2.2 full"}))
    assert s.client().deliver("x@y.example", ["new@a.example",
                                              "new2@a.example"],
                              BODY)[1] == "452 4.2.2 full"


def test_lmtp_clients_get_one_answer_a_recipient(make):
    s = make(lmtp=True, local=Hop(
        lmtp=True, **{"dot:new2@a.example": "552 5.2.2 full"}))
    c = s.client("LHLO client.example")
    assert c.cmd("EHLO x")[:3] == "500"
    c.deliver("x@y.example", ["new@a.example", "new2@a.example"], BODY)
    assert c.reply() == "552 5.2.2 full"
    c.deliver("x@y.example", ["old@a.example", "old2@a.example"], BODY)
    assert c.reply()[:3] == "250"
    assert len(s.legacy.messages) == 1


def test_a_held_recipient_waits_for_the_flip(make):
    s = make()
    c = s.client()
    s.state.hold(1)
    assert wait_for(lambda: s.state.quiets(1))
    assert s.state.quiets(1)[0]["trail"] is False
    c.cmd("MAIL FROM:<x@y.example>")
    c.send("RCPT TO:<old@a.example>\r\n")
    assert wait_for(lambda: s.state.waiting)
    d = s.client()
    assert d.deliver("x@y.example", ["old2@a.example"], BODY)[1][:3] == "250"
    s.name("old@a.example", 1, "local")
    s.state.release(1)
    assert c.reply()[:3] == "250"
    assert c.cmd("DATA")[:3] == "354"
    c.send(BODY + "\r\n.\r\n")
    assert c.reply()[:3] == "250"
    assert s.local.copies("old@a.example") == 1


def test_mail_not_yet_in_its_text_is_put_off_by_a_hold(make):
    s = make()
    c, d = s.client(), s.client()
    for x in (c, d):
        x.cmd("MAIL FROM:<x@y.example>")
        assert x.cmd("RCPT TO:<old@a.example>")[:3] == "250"
    s.state.hold(1)
    assert wait_for(lambda: s.state.quiets(1))
    assert c.cmd("DATA")[:9] == "451 4.3.2"
    assert d.cmd("RCPT TO:<old2@a.example>")[:9] == "451 4.3.2"
    assert d.cmd("DATA")[:9] == "451 4.3.2"
    assert s.legacy.messages == []
    assert c.deliver("x@y.example", ["new@a.example"], BODY)[1][:3] == "250"


def test_a_name_that_was_nobody_may_be_the_one_held(make):
    s = make()
    c, d = s.client(), s.client()
    for x in (c, d):
        x.cmd("MAIL FROM:<x@y.example>")
        assert x.cmd("RCPT TO:<alias@a.example>")[:3] == "250"
    assert d.cmd("DATA")[:3] == "354"
    s.state.hold(9)
    assert wait_for(lambda: s.state.quiets(9))
    assert s.state.quiets(9)[0]["trail"] is True
    assert c.cmd("DATA")[:9] == "451 4.3.2"
    d.send("x\r\n.\r\n")
    assert d.reply()[:3] == "250"


def test_mail_in_its_text_ends_before_the_hold_is_quiet(make):
    s = make(legacy=Hop(dot="wait"))
    c = s.client()
    c.cmd("MAIL FROM:<x@y.example>")
    c.cmd("RCPT TO:<old@a.example>")
    c.cmd("DATA")
    c.send("half\r\n")
    s.state.hold(1)
    time.sleep(0.3)
    assert not s.state.quiets(1)
    c.send(BODY + "\r\n.\r\n")
    time.sleep(0.3)
    assert not s.state.quiets(1)
    s.legacy.gate.set()
    assert c.reply()[:3] == "250"
    assert wait_for(lambda: s.state.quiets(1))
    assert s.state.quiets(1)[0]["trail"] is True


def test_a_loop_is_stopped(make):
    s = make()
    c = s.client()
    once = "X-Mailhaul-Hop: MX1.a.example\r\n"
    assert c.deliver("x@y.example", ["old@a.example"],
                     once + BODY)[1][:3] == "250"
    for head in (once * 2, "Received: from x\r\n" * 100):
        assert c.deliver("x@y.example", ["old@a.example"],
                         head + BODY)[1][:9] == "554 5.4.6"
    body = "Subject: x\r\n\r\n" + once * 3
    assert c.deliver("x@y.example", ["old@a.example"], body)[1][:3] == "250"
    assert len(s.legacy.messages) == 2


def test_a_message_too_big_is_refused_at_its_end(make):
    s = make(size=50000)
    c = s.client()
    assert c.deliver("x@y.example", ["old@a.example"],
                     "x" * 60000)[1][:9] == "552 5.3.4"
    assert c.deliver("x@y.example", ["old@a.example"], "x")[1][:3] == "250"
    assert len(s.legacy.messages) == 1


def test_a_thousand_recipients_and_no_more(make):
    s = make()
    for i in range(1001):
        s.name(f"u{i}@a.example", 100 + i, "local")
    c = s.client()
    c.cmd("MAIL FROM:<x@y.example>")
    c.send("".join(f"RCPT TO:<u{i}@a.example>\r\n" for i in range(1001)))
    said = [c.reply()[:9] for _ in range(1001)]
    assert said[:1000] == ["250 2.1.5"] * 1000 and said[1000] == "452 4.5.3"
    c.cmd("DATA")
    c.send("x\r\n.\r\n")
    assert c.reply()[:3] == "250" and len(s.local.messages) == 1000


def test_lines_too_long_and_nonsense_end_the_session(make):
    s = make()
    c = s.client()
    assert c.cmd("NOOP " + "x" * 70000)[:9] == "500 5.5.2"
    assert c.cmd("NOOP")[:3] == "250"
    for _ in range(18):
        assert c.cmd("BLAH")[:3] == "500"
    assert c.cmd("BLAH")[:3] == "421"
    for line, code in (("BDAT 5 LAST", "502"), ("GET / HTTP/1.1", "554")):
        c = s.client()
        c.send(line + "\r\nMAIL FROM:<>\r\n")
        assert c.reply()[:3] == code
        with pytest.raises((EOFError, ConnectionError)):
            c.reply()


def test_a_client_that_never_reads_is_not_read(make):
    s = make()
    c = s.client()
    c.socket.settimeout(2)
    sent = 0
    try:
        while sent < 200_000_000:
            sent += c.socket.send(b"NOOP\r\n" * 10000)
    except TimeoutError:
        pass
    assert sent < 100_000_000
    status = Path(f"/proc/{s.role.process.pid}/status").read_text()
    rss = int(status.split("VmRSS:")[1].split()[0])
    assert rss < 80_000, rss


def start_sink(port, *options):
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        ["smtp-sink", *user, *options, f"127.0.0.1:{port}", "64"],
        stdout=subprocess.DEVNULL)
    time.sleep(0.3)
    return process


def test_big_messages_stream_in_bounded_memory(make):
    s = make(size=300_000_000)
    sink = free_port()
    process = start_sink(sink, "-c")
    try:
        s.name("old@a.example", 1, "legacy", f"smtp://127.0.0.1:{sink}")
        c = s.client()
        c.cmd("MAIL FROM:<x@y.example>")
        assert c.cmd("RCPT TO:<old@a.example>")[:3] == "250"
        assert c.cmd("DATA")[:3] == "354"
        block = (b"x" * 78 + b"\r\n") * 10000
        for _ in range(250):
            c.send(block)
        status = Path(f"/proc/{s.role.process.pid}/status").read_text()
        rss = int(status.split("VmRSS:")[1].split()[0])
        c.send(b".\r\n")
        assert c.reply()[:3] == "250"
        assert rss < 80_000, rss
    finally:
        process.kill()


def make_certificate(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
                    "-keyout", folder / "key.pem", "-out", folder / "cert.pem",
                    "-days", "2", "-subj", "/CN=mx1.a.example"],
                   check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def test_starttls_forgets_what_was_said_in_clear(make, tmp_path):
    s = make(tls=make_certificate(tmp_path))
    c = s.client()
    assert "250-STARTTLS" in c.hello
    c.cmd("MAIL FROM:<x@y.example>")
    c.send("STARTTLS\r\nMAIL FROM:<injected@y.example>\r\nNOOP\r\n")
    assert c.reply()[:3] == "220"
    context = ssl._create_unverified_context()
    c.socket = context.wrap_socket(c.socket)
    c.stream = c.socket.makefile("rb")
    assert c.cmd("MAIL FROM:<x@y.example>")[:3] == "503"
    assert "STARTTLS" not in c.cmd("EHLO client.example")
    assert c.deliver("x@y.example", ["old@a.example"], BODY)[1][:3] == "250"
    assert b"with ESMTPS id" in s.legacy.messages[0][2]


def test_a_drain_lets_messages_end(make):
    s = make()
    c, d = s.client(), s.client()
    c.cmd("MAIL FROM:<x@y.example>")
    c.cmd("RCPT TO:<old@a.example>")
    s.role.process.terminate()
    assert d.reply()[:3] == "421"
    assert c.cmd("DATA")[:3] == "354"
    c.send(BODY + "\r\n.\r\n")
    assert c.reply()[:3] == "250"
    assert c.reply()[:3] == "421"
    assert s.role.process.wait(5) == 0


@pytest.mark.parametrize("lmtp", [False, True])
def test_smtp_sink_takes_what_smtp_source_sends(make, lmtp):
    s = make()
    sink = free_port()
    process = start_sink(sink, *(["-L"] if lmtp else []))
    url = f"{'lmtp' if lmtp else 'smtp'}://127.0.0.1:{sink}"
    s.name("old@a.example", 1, "legacy", url)
    try:
        subprocess.run(["smtp-source", "-s", "10", "-m", "300", "-l", "5000",
                        "-f", "x@y.example", "-t", "old@a.example",
                        f"127.0.0.1:{s.role.port}"], check=True, timeout=60)
    finally:
        process.kill()
