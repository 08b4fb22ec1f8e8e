"""The copy worker against a server that refuses, cuts, lies and leaves out:
one bad message never stops a mailbox, and nothing is taken for a message that
is none."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "fakes"))

from sick_imap import SickImap, body  # noqa: E402

BIN = Path(os.environ.get("BIN") or TOP / "build" / "release")
UIDS = range(1, 21)


@pytest.fixture
def fake():
    with SickImap() as server:
        yield server


class Mailbox:
    def __init__(self, folder, fake):
        self.folder, self.fake, self.more = folder, fake, {}

    def write_job(self, kind):
        job = {"id": 1, "kind": kind, "address": "u@example.test",
               "legacy_user": "u", "password": 'pa"ss\\word',
               "legacy_imap": f"imap://127.0.0.1:{self.fake.port}",
               "maildir": str(self.folder / "Maildir"),
               "ledger_dir": str(self.folder / "ledger"), **self.more}
        path = self.folder / "job.json"
        path.write_text(json.dumps(job))
        return path

    def copy(self, kind="initial"):
        done = subprocess.run([BIN / "mailhaul-worker", "--job",
                               self.write_job(kind)],
                              capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout.splitlines()[-1])

    def stored(self):
        found = {}
        for path in (self.folder / "Maildir" / "cur").iterdir():
            uid = int(re.search(r"U(\d+)F", path.name).group(1))
            assert uid not in found
            found[uid] = path.read_bytes()
        return found


@pytest.fixture
def mailbox(tmp_path, fake):
    return Mailbox(tmp_path, fake)


def rights(*without):
    return {uid: body(uid) for uid in UIDS if uid not in without}


def test_all_is_copied_from_a_server_with_no_extension(mailbox):
    report = mailbox.copy()
    assert report["kind"] == "none" and report["differences"] == 0
    assert mailbox.stored() == rights()


@pytest.mark.parametrize("fault", ["left out", "empty", "nil", "refused", "bad",
                                   "cut"])
def test_one_bad_message_is_set_aside_and_the_rest_copied(mailbox, fake, fault):
    fake.fault = {7: fault, 20: fault}
    report = mailbox.copy()
    assert report["kind"] == "none"
    assert report["set_aside"] == 2 and report["differences"] == 0
    assert mailbox.stored() == rights(7, 20)


def test_many_bad_ones_of_every_kind(mailbox, fake):
    fake.fault = {1: "cut", 2: "refused", 5: "empty", 6: "cut", 11: "bad",
                  12: "left out", 13: "left out", 20: "nil"}
    report = mailbox.copy()
    assert report["kind"] == "none" and report["set_aside"] == 8
    assert mailbox.stored() == rights(*fake.fault)


def test_what_was_set_aside_comes_when_the_server_is_well_again(mailbox, fake):
    fake.fault = {7: "cut", 8: "refused"}
    assert mailbox.copy()["set_aside"] == 2
    fake.fault = {}
    report = mailbox.copy("delta")
    assert report["set_aside"] == 0 and report["copied"] == 2
    assert mailbox.stored() == rights()


def test_what_was_set_aside_and_is_gone_is_forgotten(mailbox, fake):
    fake.fault = {7: "cut", 8: "refused"}
    assert mailbox.copy()["set_aside"] == 2
    fake.uids.remove(7)
    report = mailbox.copy("delta")
    assert report["set_aside"] == 1 and report["differences"] == 0, report
    fake.uids.remove(8)
    report = mailbox.copy("final")
    assert report["kind"] == "none" and report["set_aside"] == 0, report
    assert report["differences"] == 0
    assert mailbox.stored() == rights(7, 8)


def test_the_announced_size_is_only_a_hint(mailbox, fake):
    fake.fault = {3: "size lies"}
    report = mailbox.copy()
    assert report["kind"] == "none" and report["set_aside"] == 0
    assert mailbox.stored() == rights()


def test_throttling_is_no_fault_of_the_message(mailbox, fake):
    fake.fault = {9: "throttled"}
    report = mailbox.copy()
    assert report["kind"] == "retry" and report["set_aside"] == 0
    fake.fault = {}
    assert mailbox.copy()["kind"] == "none"
    assert mailbox.stored() == rights()


@pytest.mark.parametrize("answer, kind", [
    ("NO [AUTHENTICATIONFAILED] no", "denied"),
    ("NO wrong password", "denied"),
    ("NO [UNAVAILABLE] later", "retry"),
    ("NO [LIMIT] too many connections", "retry"),
    ("BAD what", "retry"),
])
def test_a_refused_login_is_told_from_a_troubled_server(mailbox, fake, answer,
                                                        kind):
    fake.login = answer
    assert mailbox.copy()["kind"] == kind


def test_legacy_is_only_read(mailbox, fake):
    mailbox.copy()
    mailbox.copy("delta")
    for line in fake.heard:
        assert not re.match(r"SELECT|STORE|UID STORE|APPEND|CREATE|DELETE|"
                            r"EXPUNGE|CLOSE|SUBSCRIBE|RENAME", line, re.I)
        assert "BODY[]" not in line
    assert any("BODY.PEEK[]" in line for line in fake.heard)


def test_a_server_that_shows_the_master_user_his_own_mailbox(mailbox, fake):
    """It does not heed for whom he logs in: everybody would get the same."""
    mailbox.more = {"master_user": "boss", "check_master": True}
    report = mailbox.copy()
    assert report["kind"] == "setup" and "his own INBOX" in report["text"]
    assert not list((mailbox.folder / "Maildir" / "cur").glob("*"))
    # what the user is shown by his own password cannot be wrong
    mailbox.more["more"] = [{"credential": 0, "password": "his own"}]
    report = mailbox.copy()
    assert report["kind"] == "none" and report["is_master_good"]


def test_a_master_user_without_a_mailbox_is_no_question(mailbox, fake):
    mailbox.more = {"master_user": "boss", "check_master": True}
    fake.logins = {"boss": "NO [AUTHENTICATIONFAILED] no"}
    report = mailbox.copy()
    assert report["kind"] == "none" and report["is_master_good"]
    assert mailbox.stored() == rights()
