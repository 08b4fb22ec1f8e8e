"""What the worker does when ledger, store and legacy do not agree: nothing is
doubled, nobody's mail is removed, and no flip comes of it."""

import json
import shutil
import sqlite3

import pytest

from copy_faults_test import UIDS, Mailbox  # finds the fakes, too
from sick_imap import Session, SickImap

BODIES = len(UIDS)


class Folders(Session):
    """Three folders, alike; server.hidden and server.refused name those that
    LIST leaves out and STATUS refuses."""

    def answer(self, tag, verb, rest):
        names = ["INBOX", "Archive", "Work"]
        if verb == "LIST":
            for name in names:
                if name not in self.server.hidden:
                    self.say(f'* LIST () "/" {name}')
        elif verb == "STATUS":
            name = rest.split(" ")[0].strip('"')
            if name in self.server.refused:
                self.say(f"{tag} NO [SERVERBUG] internal error")
                return True
            self.say(f"* STATUS {name} (MESSAGES {BODIES} UIDNEXT 21"
                     f" UIDVALIDITY {self.server.uidvalidity[name]})")
        elif verb == "EXAMINE":
            name = rest.split(" ")[0].strip('"')
            self.say(f"* {BODIES} EXISTS")
            self.say(f"* OK [UIDVALIDITY {self.server.uidvalidity[name]}] x")
            self.say("* OK [UIDNEXT 21] x")
        else:
            return super().answer(tag, verb, rest)
        self.say(f"{tag} OK done")
        return True


class Legacy(SickImap):
    def __init__(self):
        super().__init__()
        self.RequestHandlerClass = Folders
        self.hidden, self.refused = set(), set()
        self.uidvalidity = {"INBOX": 77, "Archive": 78, "Work": 79}

    def heard_appends(self):
        return [line for line in self.heard if line.startswith("APPEND")]


class Box(Mailbox):
    maildir = None  # another than the usual one

    def write_job(self, kind):
        path = super().write_job(kind)
        job = json.loads(path.read_text())
        job.update(epoch=3 if kind == "trail" else 2,  # the flip raised it
                   local_imap=job["legacy_imap"])
        if self.maildir:
            job["maildir"] = str(self.maildir)
        path.write_text(json.dumps(job))
        return path

    def files(self, folder=""):
        return sorted(p.name for p in
                      (self.folder / "Maildir" / folder / "cur").iterdir())


@pytest.fixture
def legacy():
    with Legacy() as server:
        yield server


@pytest.fixture
def box(tmp_path, legacy):
    made = Box(tmp_path, legacy)
    assert made.copy()["kind"] == "none"
    assert made.copy("delta")["differences"] == 0
    assert len(made.files()) == len(made.files(".Archive")) == BODIES
    return made


def test_a_trail_without_its_ledger_appends_nothing(box, legacy):
    assert box.copy("final")["kind"] == "none"
    shutil.rmtree(box.folder / "ledger")
    report = box.copy("trail")
    assert report["kind"] == "setup", report
    assert "ledger" in report["text"]
    assert not legacy.heard_appends()


def test_a_copy_without_its_ledger_doubles_no_file(box):
    inbox = box.folder / "Maildir" / "cur"
    for path in sorted(inbox.iterdir())[:5]:
        path.rename(path.with_name(path.name + "T"))
    shutil.rmtree(box.folder / "ledger")
    assert box.copy("delta")["kind"] == "none"
    assert len(box.stored()) == BODIES
    assert len(box.files(".Archive")) == BODIES


def test_what_others_put_into_the_mailbox_stays(box):
    foreign = box.folder / "Maildir" / "cur" / "1700000000.M1P2.mx:2,"
    foreign.write_text("Subject: delivered by somebody else\n\nx\n")
    with sqlite3.connect(box.folder / "ledger" / "ledger.db") as ledger:
        ledger.execute("UPDATE folder SET is_complete = 0")
    assert box.copy("delta")["kind"] == "none"
    assert foreign.exists()
    assert len(box.files()) == BODIES + 1


def test_a_folder_that_never_opened_counts_while_others_are_written(
        tmp_path, legacy):
    legacy.refused.add("Archive")
    box = Box(tmp_path, legacy)
    assert box.copy()["set_aside"] == 1
    assert box.copy("delta")["set_aside"] == 1


def lose_all(maildir):
    maildir.rename(maildir.with_name("elsewhere"))


def lose_one(maildir):
    next((maildir / ".Archive" / "cur").iterdir()).unlink()


def lose_folder(maildir):
    shutil.rmtree(maildir / ".Work")


def restore_older(maildir):
    older = maildir.with_name("older")
    shutil.copytree(maildir, older)
    next((older / "cur").iterdir()).unlink()
    shutil.rmtree(maildir)
    older.rename(maildir)


@pytest.mark.parametrize("lose", [lose_all, lose_one, lose_folder,
                                  restore_older])
def test_what_the_store_has_lost_comes_again_before_the_flip(box, lose):
    maildir = box.folder / "Maildir"
    lose(maildir)
    report = box.copy("final")
    assert report["kind"] == "retry" and "not as it was" in report["text"]
    assert not (maildir / "mailhaul-witness").exists()
    report = box.copy("delta")
    assert report["kind"] == "none" and report["differences"] == 0
    assert report["messages"] == 3 * BODIES
    assert box.copy("final")["kind"] == "none"
    for folder in ["", ".Archive", ".Work"]:
        assert len(box.files(folder)) == BODIES
        uidlist = maildir / folder / "dovecot-uidlist"
        assert len(uidlist.read_text().splitlines()) == BODIES + 1


def test_a_store_that_nobody_touched_is_not_gone_through(box):
    maildir = box.folder / "Maildir"
    before = [(maildir / f / "cur").stat().st_mtime_ns
              for f in ["", ".Archive", ".Work"]]
    lists = (maildir / "dovecot-uidlist").stat().st_mtime_ns
    assert box.copy("delta")["kind"] == "none"
    assert box.copy("final")["kind"] == "none"
    assert before == [(maildir / f / "cur").stat().st_mtime_ns
                      for f in ["", ".Archive", ".Work"]]
    assert (maildir / "dovecot-uidlist").stat().st_mtime_ns == lists


def test_a_ledger_of_the_first_version_is_brought_up(box):
    with sqlite3.connect(box.folder / "ledger" / "ledger.db") as ledger:
        for table in ["back", "superseded"]:
            ledger.execute(f"DROP TABLE {table}")
        for column in ["cur_inode", "cur_mtime_ns", "least_uidnext",
                       "least_modseq"]:
            ledger.execute(f"ALTER TABLE folder DROP COLUMN {column}")
        ledger.execute("DELETE FROM value WHERE key = 'maildir'")
        ledger.execute("PRAGMA user_version = 1")
    assert box.copy("delta")["kind"] == "none"
    report = box.copy("final")
    assert report["kind"] == "none" and report["copied"] == 0
    assert len(box.files()) == BODIES


@pytest.mark.parametrize("kind", ["initial", "delta", "final"])
def test_a_mailbox_is_not_copied_into_two_places(box, kind):
    box.maildir = box.folder / "Other"
    report = box.copy(kind)
    assert report["kind"] == "setup", report
    assert f"store.path was {box.folder}/Maildir when" in report["text"]
    assert not box.maildir.exists()
    box.maildir = None
    assert box.copy("final")["kind"] == "none"


@pytest.mark.parametrize("kind", ["delta", "final"])
def test_a_known_folder_that_does_not_open_stops_the_flip(box, legacy, kind):
    legacy.refused.add("Archive")
    report = box.copy(kind)
    assert report["kind"] == "retry" or report["differences"] > 0, report
    assert not (box.folder / "Maildir" / "mailhaul-witness").exists()
    assert len(box.files(".Archive")) == BODIES


def test_the_last_delta_does_not_drop_a_folder_with_mail(box, legacy):
    legacy.hidden.add("Archive")
    assert box.copy("final")["kind"] == "retry"
    assert len(box.files(".Archive")) == BODIES
    assert box.copy("delta")["kind"] == "none"
    assert not (box.folder / "Maildir" / ".Archive").exists()


def test_an_inbox_that_is_not_listed_is_not_dropped(box, legacy):
    legacy.hidden.add("INBOX")
    assert box.copy("delta")["kind"] == "retry"
    assert len(box.files()) == BODIES


def test_one_folder_made_anew_does_not_stop_the_trail_of_others(box, legacy):
    assert box.copy("final")["kind"] == "none"
    legacy.uidvalidity["Archive"] = 99
    legacy.heard.clear()
    report = box.copy("trail")
    assert report["kind"] == "setup" and "Archive" in report["text"]
    assert any(line.startswith("STATUS Work") for line in legacy.heard)
    legacy.uidvalidity["INBOX"] = 98
    legacy.heard.clear()
    report = box.copy("trail")
    assert report["kind"] == "setup" and "INBOX" in report["text"]
    assert not legacy.heard_appends()
