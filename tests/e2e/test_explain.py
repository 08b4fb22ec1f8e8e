"""What mailhaul tells of itself: the audit, an account's sentence and timeline,
and what became of a mail or a login."""

import imaplib
import json
import os
import smtplib

import pytest

from devservers import node
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "delta_seconds": 2}


@pytest.fixture(scope="module")
def world(shared_world):
    return shared_world


def copied(world, user):
    world.fill(user, messages=4)
    world.imap(user).logout()
    world.wait_account(user, copy="delta", clean=True)


def audit(world, *args):
    """Oldest first."""
    return world.mailhaul("audit", *args)["entries"][::-1]


def plain(world, *args):
    return node.Node.cli(world.node, *args)


def trace(world, *args, **wanted):
    """The texts of the events, once one of them has all that is wanted: a line
    is written when its session or mail is over."""
    def found():
        events = world.mailhaul("trace", *args)["events"]
        for e in events:
            fields = e["fields"]
            if all(fields.get(k) == v for k, v in wanted.items()):
                return events
        return None
    return wait_until(found, 30, 0.3, lambda: world.mailhaul("trace", *args))


def test_the_audit_tells_a_flip_from_end_to_end(world):
    address = world.address("alice")
    copied(world, "alice")
    row = world.account("alice")
    assert row["sentence"].startswith(
        "On the old server: copied; waits for `mailhaul cutover`")
    world.mailhaul("cutover", address, "--reason", "first of all")
    world.wait_account("alice", route="local")
    entries = audit(world, address)
    events = [e["event"] for e in entries]
    for event in ("learnt", "copied", "cutover", "hold", "flip"):
        assert event in events, events
    asked = entries[events.index("cutover")]
    assert asked["actor"].startswith(f"uid {os.getuid()} (")
    assert asked["reason"] == "first of all"
    assert "wants_flip=0" in asked["was"]
    assert "wants_flip=0" not in asked["became"]
    flip = entries[events.index("flip")]
    assert flip["actor"] == "state" and flip["address"] == address
    assert "route=held" in flip["was"] and "route=local" in flip["became"]
    assert "copy=final" in flip["was"] and "copy=trail" in flip["became"]
    assert entries == sorted(entries, key=lambda e: e["at"])


def test_the_timeline_of_a_flipped_account(world):
    wait_until(lambda: world.account("alice")["sentence"].startswith(
        "On the new server since "), 30, 0.3,
        lambda: world.account("alice")["sentence"])
    row = world.account("alice")
    events = [e["event"] for e in row["timeline"]]
    order = [events.index(e) for e in ("learnt", "copied", "cutover", "flip")]
    assert order == sorted(order)
    times = [e["at"] for e in row["timeline"]]
    assert times == sorted(times)
    text = plain(world, "account", "show", world.address("alice"))
    assert row["sentence"].split(":")[0] in text
    assert "flipped to the new server" in text


def test_the_audit_outlives_the_account(world):
    address = world.address("dave")
    world.imap("dave").logout()
    world.wait_account("dave", copy=("initial", "delta"))
    world.mailhaul("account", "pause", address)
    wait_until(lambda: world.mailhaul("account", "remove", address,
                                      check=False).returncode == 0, 30, 0.3)
    assert world.account("dave") is None
    last = audit(world, address)[-1]
    assert last["event"] == "account remove" and "route=legacy" in last["was"]
    assert [e for e in audit(world, "--domain", world.settings.domain)
            if e["address"] == address]
    assert audit(world, address, "--since", "2999-01-01") == []


def test_a_refused_password_is_told_in_status_in_the_same_words(world):
    copied(world, "bob")
    world.set_legacy_password("bob", "another-one")
    world.wait_account("bob", copy="failed")
    sentence = world.account("bob")["sentence"]
    assert sentence == ("On the old server: the copying stopped because the "
                        "old server refuses the password; the next good login "
                        "sets it going.")
    stuck = [a for a in world.mailhaul("status")["stuck"]
             if a["address"] == world.address("bob")]
    assert [a["sentence"] for a in stuck] == [sentence]
    assert "refuses the password" in plain(world, "status")


def test_a_freeze_is_told_with_its_reason(world):
    copied(world, "carol")
    world.mailhaul("freeze", "--domain", world.settings.domain, "--reason",
                   "the new store is slow")
    try:
        assert (f"waits until {world.settings.domain} is thawed (the new store "
                "is slow)" in world.account("carol")["sentence"])
    finally:
        world.mailhaul("thaw", "--domain", world.settings.domain)
    assert "thawed" not in world.account("carol")["sentence"]


def test_what_became_of_a_mail(world):
    """To one who is served by the old server, and one served by the new."""
    wait_until(lambda: world.account("alice")["provisioned"], 30)
    for user, side in (("carol", "legacy"), ("alice", "local")):
        serial = world.send(user)
        message_id = f"<{serial}@sender.test>"
        events = trace(world, "--message-id", message_id,
                       to=world.address(user))
        told = [e["fields"] for e in events]
        mail = next(f for f in told if "message_id" in f)
        assert mail["side"] == side and mail["code"] == "250"
        assert mail["from"] == "x@sender.test" and int(mail["size"]) > 100
        to = next(f for f in told if "to" in f)
        assert to["side"] == side and to["code"] == "250" and to["answer"]
        trace(world, "--message-id", message_id, ip="127.0.0.1")
        session = events[0]["session"]
        assert {e["session"] for e in events} == {session}
        assert trace(world, "--session", session, to=world.address(user))
        assert serial in json.dumps(trace(
            world, world.address(user), message_id=f"{serial}@sender.test"))


def test_one_mail_of_a_session_is_not_mixed_with_the_next(world):
    with world.smtp() as smtp:
        for n in (1, 2):
            smtp.sendmail("x@sender.test", [world.address("carol")],
                          f"Message-ID:\r\n <mixed-{n}@sender.test>\r\n\r\nx")
    events = trace(world, "--message-id", "mixed-1@sender.test",
                   ip="127.0.0.1")
    told = json.dumps(events)
    assert "mixed-1@" in told and "mixed-2@" not in told


def test_a_recipient_that_was_refused(world):
    with world.smtp() as smtp, pytest.raises(smtplib.SMTPRecipientsRefused):
        smtp.sendmail("x@sender.test", ["who@elsewhere.test"], "x")
    events = trace(world, "who@elsewhere.test", to="who@elsewhere.test")
    assert any(e["fields"].get("code") == "550" for e in events)
    text = plain(world, "trace", "who@elsewhere.test")
    assert "recipient <who@elsewhere.test> of a mail from <x@sender.test> not " \
        "taken: 550" in text


def test_what_became_of_a_login(world):
    address = world.address("carol")
    with pytest.raises(imaplib.IMAP4.error):
        world.imap("carol", password="wrong")
    trace(world, address, reason="denied")
    world.imap("carol").logout()
    events = trace(world, address, route="legacy", protocol="imap")
    assert any(e["source"] == "audit" for e in events)
    times = [e["at"] for e in events]
    assert times == sorted(times)
    assert "password" not in [f for e in events for f in e["fields"]]


def test_a_time_that_is_none_and_a_question_that_is_none(world):
    for args in (("trace", "a@b.test", "--at", "yesterday"), ("trace",),
                 ("trace", "a@b.test", "--session", "1"),
                 ("audit", "--since", "soon")):
        assert world.mailhaul(*args, check=False).returncode == 2
    assert world.mailhaul("trace", "a@b.test", "--log", "/nowhere",
                          check=False).returncode == 1


def test_another_log_is_searched_when_it_is_named(world, tmp_path):
    log = tmp_path / "old.log"
    log.write_text(
        "2026-01-02T03:04:05.678Z smtp[1] info smtp 1-2-3 message mail=1 "
        "from=<> message_id=<old@x.test> side=legacy code=451\nrubbish\n")
    events = world.mailhaul("trace", "--message-id", "old@x.test", "--log",
                            log)["events"]
    assert [e["fields"]["code"] for e in events] == ["451"]
