"""The copy worker against a server that refuses, cuts, lies and leaves out:
one bad message never stops a mailbox, and nothing is taken for a message that
is none."""

import json
import os
import re
import socketserver
import subprocess
import threading
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("BIN") or TOP / "build" / "release")
UIDS = range(1, 21)


def body(uid):
    return f"Subject: {uid}\r\n\r\n{'x' * uid * 100}\r\n".encode()


class Session(socketserver.StreamRequestHandler):
    """IMAP4rev1 and no more; server.fault(uid) says what is wrong."""

    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        self.server.sessions += 1
        self.say("* OK hello")
        for line in self.rfile:
            words = line.decode().rstrip().split(" ", 2)
            tag, verb = words[0], words[1].upper()
            self.server.heard.append(" ".join(words[1:]))
            if verb == "UID":
                verb = "UID " + words[2].split(" ")[0].upper()
            if not self.answer(tag, verb, words[2] if len(words) > 2 else ""):
                return

    def answer(self, tag, verb, rest):
        if verb == "CAPABILITY":
            self.say("* CAPABILITY IMAP4rev1")
        elif verb == "LOGIN" and self.server.login:
            self.say(f"{tag} {self.server.login}")
            return True
        elif verb == "LIST":
            self.say('* LIST () "/" INBOX')
        elif verb == "STATUS":
            self.say(f"* STATUS INBOX (MESSAGES {len(UIDS)} UIDNEXT 21"
                     " UIDVALIDITY 77)")
        elif verb == "EXAMINE":
            self.say(f"* {len(UIDS)} EXISTS")
            self.say("* OK [UIDVALIDITY 77] here")
            self.say("* OK [UIDNEXT 21] next")
        elif verb == "UID SEARCH":
            self.say("* SEARCH " + " ".join(map(str, UIDS)))
        elif verb == "UID FETCH":
            return self.fetch(tag, rest)
        elif verb not in ("LSUB", "LOGIN", "LOGOUT"):
            self.say(f"{tag} BAD what")
            return True
        self.say(f"{tag} OK done")
        return True

    def fetch(self, tag, rest):
        uids = set()
        for part in rest.split(" ")[1].split(","):
            first, _, last = part.partition(":")
            uids |= set(range(int(first), int(last or first) + 1))
        for uid in sorted(uids):
            fault = self.server.fault.get(uid)
            head = (f"* {uid} FETCH (UID {uid} FLAGS (\\Seen) INTERNALDATE "
                    f'"01-Feb-2020 10:00:00 +0000" '
                    f"RFC822.SIZE {len(body(uid))}")
            if "BODY" not in rest:
                self.say(head + ")")
            elif fault == "left out":
                pass
            elif fault == "empty":
                self.say(head + ' BODY[] "")')
            elif fault == "nil":
                self.say(head + " BODY[] NIL)")
            elif fault == "refused":
                self.say(f"{tag} NO cannot read this one")
                return True
            elif fault == "bad":
                self.say(f"{tag} BAD cannot parse this one")
                return True
            elif fault == "cut":
                self.wfile.write(f"{head} BODY[] {{{len(body(uid))}}}\r\n"
                                 .encode() + body(uid)[:20])
                return False
            elif fault == "throttled":
                self.say(f"{tag} NO [THROTTLED] come back")
                return True
            else:
                data = body(uid)
                if fault == "size lies":
                    head = re.sub(r"SIZE \d+", "SIZE 5", head)
                self.wfile.write(f"{head} BODY[] {{{len(data)}}}\r\n".encode()
                                 + data + b")\r\n")
        self.say(f"{tag} OK done")
        return True


class Fake(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Session)
        self.fault, self.heard, self.sessions, self.login = {}, [], 0, None
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def fake():
    server = Fake()
    yield server
    server.shutdown()
    server.server_close()


class Mailbox:
    def __init__(self, folder, fake):
        self.folder, self.fake = folder, fake

    def write_job(self, kind):
        job = {"id": 1, "kind": kind, "address": "u@example.test",
               "legacy_user": "u", "password": 'pa"ss\\word',
               "legacy_imap": f"imap://127.0.0.1:{self.fake.server_address[1]}",
               "maildir": str(self.folder / "Maildir"),
               "ledger_dir": str(self.folder / "ledger")}
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
