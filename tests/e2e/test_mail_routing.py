"""Mail through smtp-proxy before, during and after the flip: every message in
exactly one place, where its reader finds it (promises 2 and 3)."""

import smtplib
import time

import pytest

from lib.snapshot import find_serials
from lib.waiting import wait_until

WORLD = {"cutover": "manual"}  # the moment of the flip is the fixture's


def found_on(world, side, user="alice"):
    imap = world.imap(user, side)
    try:
        return {s: len(where) for s, where in find_serials(imap).items()}
    finally:
        imap.logout()


@pytest.fixture(scope="module")
def moved(shared_world):
    """alice lives on local, everybody else on legacy."""
    shared_world.imap("alice").logout()
    shared_world.wait_account("alice", copy="delta")
    shared_world.mailhaul("cutover", "alice@example.test")
    shared_world.wait_account("alice", route="local")
    return shared_world


def test_mail_follows_the_recipient(moved):
    to_alice, to_bob = moved.send("alice"), moved.send("bob")
    wait_until(lambda: to_alice in found_on(moved, "local"))
    wait_until(lambda: to_bob in found_on(moved, "legacy", "bob"))
    assert to_alice not in found_on(moved, "legacy")


def test_tagged_mail_follows_its_user(moved):
    serial = moved.send("alice+shop@example.test")
    wait_until(lambda: serial in found_on(moved, "local"))


@pytest.mark.parametrize("tls", [False, True])
def test_the_second_side_is_asked_to_come_again(moved, tls):
    with moved.smtp(tls=tls) as smtp:
        assert smtp.mail("x@sender.test")[0] == 250
        assert smtp.rcpt("alice@example.test")[0] == 250
        code, text = smtp.rcpt("bob@example.test")
        assert (code, text[:5]) == (452, b"4.5.3")
        serial = f"both{time.monotonic_ns()}"
        assert smtp.data(f"X-Serial: {serial}\r\n\r\nx\r\n")[0] == 250
    wait_until(lambda: serial in found_on(moved, "local"))


def test_other_domains_and_legacys_unknown_users_are_refused(moved):
    with moved.smtp() as smtp:
        smtp.mail("x@sender.test")
        code, text = smtp.rcpt("x@elsewhere.test")
        assert (code, text[:5]) == (550, b"5.7.1")
        code, text = smtp.rcpt("nobody@example.test")
        assert code == 550 and b"User unknown" in text  # legacy's own words


def test_extensions_are_offered(moved):
    with moved.smtp() as smtp:
        for word in ("starttls", "pipelining", "8bitmime", "size",
                     "enhancedstatuscodes"):
            assert smtp.has_extn(word), word


def test_only_cr_lf_dot_ends_a_message(moved):
    for number, ending in enumerate((b"\n.\n", b"\r\n.\n", b"\n.\r\n",
                                     b"\r.\r", b"\r\n.\r")):
        serial = f"end{number}-{time.monotonic_ns()}"
        inner = b"MAIL FROM:<evil@sender.test>\r\n"
        with moved.wire("smtp") as wire:
            wire.read_line()
            for line in ("HELO x", "MAIL FROM:<x@sender.test>",
                         "RCPT TO:<alice@example.test>", "DATA"):
                wire.line(line)
                assert wire.read_line()[:1] in b"23"
            wire.send(b"X-Serial: %b\r\n\r\nbody" % serial.encode() + ending
                      + inner + b"\r\n.\r\n")
            answer = wire.read_line()
            wire.line("NOOP")
            try:
                following = wire.read_line()
            except (EOFError, OSError):
                following = b""  # hung up on: as good
        assert answer[:3] in (b"250", b"550", b"554", b"500"), answer
        assert following == b"" or following.startswith(b"250"), ending


def test_a_message_that_has_hopped_too_often_is_refused(moved):
    trace = "Received: from a by b; Sun, 1 Mar 2026 00:00:00 +0000\r\n" * 120
    with moved.smtp() as smtp, pytest.raises(smtplib.SMTPDataError) as refusal:
        smtp.sendmail("x@sender.test", ["alice@example.test"],
                      trace + "\r\nx\r\n")
    assert 500 <= refusal.value.smtp_code < 600


def test_a_large_message_arrives_whole(moved):
    body = ("x" * 76 + "\r\n") * 200_000  # 15 MB
    serial = moved.send("alice", body=body)
    imap = moved.imap("alice", "local")
    found = wait_until(lambda: find_serials(imap).get(serial))
    imap.select(found[0][0], readonly=True)
    raw = imap.uid("FETCH", str(found[0][1]), "(BODY.PEEK[TEXT])")[1][0][1]
    imap.logout()
    assert raw == body.encode()


def test_local_down_is_temporary(moved):
    moved.stop("local-dovecot")
    try:
        with moved.smtp() as smtp:
            smtp.mail("x@sender.test")
            assert 400 <= smtp.rcpt("alice@example.test")[0] < 500
            assert smtp.rcpt("bob@example.test")[0] == 250
    finally:
        moved.start("local-dovecot")
        moved.wait_ready("local-dovecot")


def test_mail_by_locals_own_mta_goes_to_the_side_of_its_recipient(moved):
    to_bob = moved.send("bob", "local", sender="alice@example.test")
    to_her = moved.send("alice", "local", sender="alice@example.test")
    wait_until(lambda: to_bob in found_on(moved, "legacy", "bob"))
    wait_until(lambda: to_her in found_on(moved, "local"))


def test_what_comes_to_legacy_after_the_flip_is_found_on_local(moved):
    serial = moved.send("alice", "legacy", sender="bob@example.test")
    alias = moved.send("sales@example.test", "legacy")
    wait_until(lambda: {serial, alias} <= found_on(moved, "local").keys(), 40)
