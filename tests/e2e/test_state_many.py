"""The state process with many accounts: commands on a whole domain go page by
page, local is told of all while others are answered, and a domain that is being
closed holds nobody."""

import json
import socket
import sqlite3
import struct
import threading
import time

import pytest
from test_state import Daemon, Jobs, Login

MANY = 1203
PAGE = 500


def ask(daemon, **request):
    """One request over the control socket; its whole answer."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(daemon.state / "control.sock"))
        text = json.dumps(request).encode()
        s.sendall(struct.pack(">I", len(text)) + text)
        raw = b""
        while len(raw) < 4 or len(raw) < 4 + struct.unpack(">I", raw[:4])[0]:
            raw += s.recv(65536)
    return json.loads(raw[4:])


def addresses(rows):
    return [row["address"] for row in rows]


class Many(Daemon):
    """MANY accounts of a.test, and one of b.test."""

    def __init__(self, folder, **row):
        super().__init__(folder)
        for name in ("a.test", "b.test"):
            self.cli("domain", "add", name, "--imap", "imap://127.0.0.1:1",
                     "--cutover", "manual")
        row = {"route": "legacy", "copy": "delta", "epoch": 1, "created_at": 1,
               "updated_at": 1, **row}
        self.all = [f"u{n:05}@a.test" for n in range(MANY)]
        with self.control() as db:
            for address in self.all + ["other@b.test"]:
                named = {"domain_id": 1 + (address == "other@b.test"),
                         "address": address, "legacy_user": address, **row}
                db.execute(
                    f"insert into accounts ({', '.join(named)}) values"
                    f" ({', '.join('?' * len(named))})", list(named.values()))

    def control(self):
        return sqlite3.connect(self.state / "control.db", timeout=20)

    def count(self, where):
        with self.control() as db:
            return db.execute(
                f"select count(*) from accounts where {where}").fetchone()[0]

    def auth(self, statement, rows=()):
        with sqlite3.connect(self.state / "dovecot" / "auth.db",
                             timeout=20) as db:
            return db.execute(statement, rows).fetchall()


@pytest.fixture
def make(tmp_path):
    made = []

    def make_one(**row):
        made.append(Many(tmp_path, **row))
        return made[-1]
    yield make_one
    for one in made:
        one.stop()


def test_a_list_comes_in_pages_and_the_command_line_puts_them_together(make):
    daemon = make()
    daemon.start()
    seen, after = [], ""
    while after is not None:
        page = ask(daemon, cmd="account list", domain="a.test",
                   after=after)["result"]
        assert len(page["accounts"]) <= PAGE and page["total"] == MANY
        seen += addresses(page["accounts"])
        after = page["next"]
    assert seen == daemon.all
    whole = daemon.cli("account", "list", "--domain", "a.test")
    assert addresses(whole["accounts"]) == daemon.all
    assert whole.keys() == {"accounts"}
    assert len(daemon.cli("account", "list")["accounts"]) == MANY + 1


def test_a_cutover_of_a_domain_asks_for_each_once_and_no_others(make):
    daemon = make()
    daemon.start()
    asked = daemon.cli("cutover", "--domain", "a.test", "--now")
    assert addresses(asked["accounts"]) == daemon.all
    assert {row["cutover"] for row in asked["accounts"]} == {"asked"}
    assert daemon.count("wants_flip > 0") == MANY
    with daemon.control() as db:
        assert db.execute("select count(*), count(distinct account_id) from"
                          " audit where event = 'cutover'").fetchone() == (
                              MANY, MANY)


def test_commands_on_a_domain_leave_out_whom_the_store_knows_better(make):
    daemon = make()
    with daemon.control() as db:
        db.execute("insert into refused (address, generation, epoch, route, at,"
                   " legacy_user, source) values (?, 9, 7, 'local', 1, '',"
                   " 'journal')", (daemon.all[700],))
    daemon.start()
    for command, word in (("cutover", "cutover"), ("rollback", "rollback"),
                          ("migrate", "action")):
        told = daemon.cli(command, "--domain", "a.test",
                          status=0 if command == "migrate" else 1)
        assert [row["address"] for row in told["accounts"]
                if row[word] == "refused"] == [daemon.all[700]], command
        assert len(told["accounts"]) == MANY
    with daemon.control() as db:
        [(wants, jobs)] = db.execute(
            "select wants_flip, (select count(*) from jobs where account_id ="
            " accounts.id) from accounts where address = ?",
            (daemon.all[700],))
    assert (wants, jobs) == (0, 0)
    assert daemon.count("wants_flip > 0") == MANY - 1


def test_a_freeze_amid_the_pages_stops_and_says_how_far_it_came(make):
    daemon = make()
    daemon.start()
    first = ask(daemon, cmd="cutover", domain="a.test")["result"]
    daemon.cli("freeze", "--domain", "a.test")
    second = ask(daemon, cmd="cutover", domain="a.test", after=first["next"])
    assert not second["ok"] and "frozen" in second["error"]
    assert daemon.count("wants_flip > 0") == PAGE


def test_a_reopening_that_was_cut_off_is_finished_by_the_next(make):
    daemon = make(route="local", copy="done", epoch=3, provisioned_epoch=3,
                  trail_ended_at=9)
    forgotten = daemon.all[7]
    with daemon.control() as db:
        db.execute("update domains set closed_at = 7, is_enabled = 0")
        # an operator has ended this one before
        db.execute("update accounts set trail_ended_at = 5 where address = ?",
                   (forgotten,))
        db.execute("insert into secrets (account_id, wrapped_key, sealed)"
                   " select id, zeroblob(97), zeroblob(60) from accounts")
    daemon.start()
    said = daemon.cli("domain", "enable", "a.test", status=1)
    assert "domain reopen" in said["error"]
    page = ask(daemon, cmd="domain reopen", name="a.test")["result"]
    assert page["trails"] == PAGE - 1
    assert page["next"] == daemon.all[PAGE - 1]
    daemon.kill_state()
    opened = daemon.cli("domain", "reopen", "a.test")
    assert opened["trails"] == MANY - PAGE
    assert opened["without_password"] == 0
    assert daemon.count("copy = 'trail' and trail_ended_at = 0") == MANY - 1
    assert daemon.show(forgotten)["copy"] == "done"
    assert daemon.count("copy = 'done'") == 2  # and one of the other domain
    assert "not closed" in daemon.cli("domain", "reopen", "a.test",
                                      status=1)["error"]


def test_a_domain_that_was_never_closed_is_not_reopened(make):
    daemon = make(route="local", copy="done", epoch=3, provisioned_epoch=3,
                  trail_ended_at=9)
    daemon.start()
    daemon.cli("domain", "disable", "b.test")
    for name in ("a.test", "b.test"):
        said = daemon.cli("domain", "reopen", name, status=1)
        assert "not closed" in said["error"]
    assert daemon.count("copy = 'trail'") == 0


def test_local_that_lost_its_file_is_told_of_many_and_of_all_but_one(make):
    daemon = make(route="local", copy="trail", epoch=3, provisioned_epoch=3)
    stubborn = daemon.all[300]
    daemon.auth("insert into users (username, active, epoch) values (?, 0, 99)",
                (stubborn,))  # local knows a later epoch: not to be told
    daemon.start()
    daemon.wait_for(daemon.all[-1], provisioned=True)
    daemon.wait_for(daemon.all[0], provisioned=True)
    known = dict(daemon.auth("select username, epoch from users where active"))
    assert set(known) == set(daemon.all + ["other@b.test"]) - {stubborn}
    assert set(known.values()) == {3}
    assert not daemon.show(stubborn)["provisioned"]
    daemon.auth("update users set epoch = 1 where username = ?", (stubborn,))
    daemon.wait_for(stubborn, provisioned=True)


def test_a_domain_that_is_being_closed_holds_nobody(make):
    daemon = make()
    daemon.start()
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    moved, moving = "m@b.test", "n@b.test"
    for name in (moved, moving):
        login.expect("answer", id=login.learn(name))
        jobs.copy()
    ask(daemon, cmd="cutover", address=moved)
    jobs.delta()
    login.quiet(login.expect("hold"))
    jobs.done(jobs.take("final"), folders=2, messages=3, is_verified=True)
    daemon.wait_for(moved, route="local")
    closing = threading.Thread(target=lambda: daemon.cli(
        "domain", "close", "b.test", "--force", "--reason", "it is sold"))
    jobs.done(jobs.take("trail"))
    closing.start()
    last = jobs.take("trail")  # the last pass, which takes its time
    ask(daemon, cmd="cutover", address=moving)
    jobs.delta()
    assert login.silent("hold", 1)
    assert daemon.show(moving)["route"] == "legacy"
    jobs.done(last)
    closing.join()
    assert daemon.show(moved)["copy"] == "done"
    assert daemon.show(moving)["route"] == "legacy"


def move(daemon, login, jobs, name):
    """To local, with its first trail done."""
    login.expect("answer", id=login.learn(name))
    jobs.copy()
    ask(daemon, cmd="cutover", address=name)
    jobs.delta()
    login.quiet(login.expect("hold"))
    jobs.done(jobs.take("final"), folders=2, messages=3, is_verified=True)
    daemon.wait_for(name, route="local")
    jobs.done(jobs.take("trail"))


def close(daemon, **options):
    with daemon.control() as db:  # as long ago as it has to be
        db.execute("update accounts set flipped_at = 1 where flipped_at > 1")
        db.execute("delete from accounts where address = 'other@b.test'")
    return ask(daemon, cmd="domain close", name="b.test",
               probe={"asked": 10, "refused": 10}, **options)["result"]


def test_a_way_back_that_was_asked_for_ends_with_its_domain(make):
    daemon = make()
    daemon.start()
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    move(daemon, login, jobs, "m@b.test")
    ask(daemon, cmd="rollback", address="m@b.test")
    jobs.done(jobs.take("rollback"), kind="retry", text="legacy is slow")
    refused = close(daemon)
    assert {bar["bar"]: bar["count"] for bar in refused["bars"]} == {
        "goes_back": 1}
    asked = close(daemon, force=True, reason="it is sold")
    assert asked["state"] == "passing"
    jobs.done(jobs.take("trail"))
    shown = daemon.wait_for("m@b.test", copy="done")
    assert shown["rollback"] == "no"
    jobs.send(m="lease", free=4, urgent=4)
    assert jobs.silent("job", 3)
    assert login.asked("m@b.test", "mail")["answer"] == "local"


def test_who_closes_by_force_does_not_join_who_does_not(make):
    daemon = make()
    daemon.start()
    login, jobs = Login(daemon, 900001), Jobs(daemon)
    move(daemon, login, jobs, "m@b.test")
    assert close(daemon)["state"] == "passing"
    last = jobs.take("trail")
    answer = ask(daemon, cmd="domain close", name="b.test", force=True,
                 reason="now", probe={})
    assert not answer["ok"] and "without force" in answer["error"]
    for _ in range(2):
        jobs.done(last, kind="retry", text="no")
        last = jobs.take("trail")
    jobs.done(last, kind="retry", text="no")
    daemon.wait_for("m@b.test", copy="trail")
    # what nobody has waited for is not told to the next one
    assert close(daemon, force=True, reason="now")["state"] == "passing"


# --- auth.db

def moved(make, **row):
    daemon = make(**{"route": "local", "copy": "trail", "epoch": 3,
                     "provisioned_epoch": 3, **row})
    daemon.start()
    daemon.wait_for(daemon.all[-1], provisioned=True)
    daemon.wait_for(daemon.all[0], provisioned=True)
    return daemon


def files(daemon, name):
    folder = daemon.state / "dovecot"
    return [folder / f"{name}{end}" for end in ("", "-wal", "-shm")]


def copy_auth(daemon):
    """A consistent copy, as a backup makes it."""
    copy = daemon.folder / "auth-copy.db"
    daemon.auth(f"vacuum into '{copy}'")
    return copy


def test_an_old_copy_of_auth_db_with_as_many_users_is_noticed(make):
    daemon = moved(make)
    copy = copy_auth(daemon)
    locked = daemon.all[5]
    daemon.cli("account", "lock", locked, "--all")
    daemon.stop()
    for path in files(daemon, "auth.db"):
        path.unlink(missing_ok=True)
    copy.rename(daemon.state / "dovecot" / "auth.db")
    assert daemon.auth("select can_login from users where username = ?",
                       (locked,)) == [(1,)]
    daemon.start()
    daemon.wait_for(locked, provisioned=True)
    daemon.wait_for(daemon.all[-1], provisioned=True)
    assert daemon.auth("select can_login from users where username = ?",
                       (locked,)) == [(0,)]
    entries = daemon.cli("audit")["entries"]
    assert any(e["event"] == "local reminded" for e in entries)


def test_who_went_back_is_not_served_by_an_old_copy_of_auth_db(make):
    daemon = moved(make)
    back = daemon.all[9]
    copy = copy_auth(daemon)
    daemon.stop()
    with daemon.control() as db:  # as a rollback leaves it
        db.execute("update accounts set route = 'legacy', copy = 'delta',"
                   " epoch = 5, rolled_back_at = 9, provisioned_epoch = 0"
                   " where address = ?", (back,))
    daemon.start()
    daemon.wait_for(back, provisioned=True)
    daemon.stop()
    for path in files(daemon, "auth.db"):
        path.unlink(missing_ok=True)
    copy.rename(daemon.state / "dovecot" / "auth.db")
    daemon.start()
    daemon.wait_for(daemon.all[-1], provisioned=True)
    daemon.wait_for(back, provisioned=True)
    assert daemon.auth("select active, epoch from users where username = ?",
                       (back,)) == [(0, 5)]


def test_an_auth_db_that_is_replaced_under_way_is_written_to(make):
    daemon = moved(make)
    copy = copy_auth(daemon)
    daemon.cli("account", "lock", daemon.all[5], "--all")  # in its log alone
    time.sleep(2.5)  # the state process has seen that log
    before = daemon.state_pid()
    copy.rename(daemon.state / "dovecot" / "auth.db")
    deadline = time.monotonic() + 10
    while ("auth.db was replaced" not in (daemon.folder / "log").read_text()
           or daemon.state_pid() == before):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    daemon.wait_for(daemon.all[0], provisioned=True)
    daemon.wait_for(daemon.all[5], provisioned=True)
    assert daemon.auth("pragma integrity_check") == [("ok",)]
    assert daemon.auth("select can_login from users where username = ?",
                       (daemon.all[5],)) == [(0,)]
    login, jobs = Login(daemon, 900003), Jobs(daemon, 900004)
    move(daemon, login, jobs, "new@b.test")
    daemon.wait_for("new@b.test", provisioned=True)
    assert daemon.auth("select active from users where username = ?",
                       ("new@b.test",)) == [(1,)]


def test_who_locks_auth_db_holds_up_nobody_else(make):
    daemon = moved(make)
    daemon.stop()
    with daemon.control() as db:
        db.execute("update accounts set provisioned_epoch = 0")
    holder = sqlite3.connect(daemon.state / "dovecot" / "auth.db",
                             isolation_level=None, timeout=20)
    holder.execute("begin immediate")
    daemon.start()
    login = Login(daemon, 900001)
    for _ in range(20):
        began = time.monotonic()
        assert login.asked(daemon.all[0])["answer"] == "unavailable"
        assert time.monotonic() - began < 2.5
        time.sleep(0.1)
    holder.execute("rollback")
    daemon.wait_for(daemon.all[-1], provisioned=True)
    said = (daemon.folder / "log").read_text()
    assert 1 <= said.count("not made known to local") < 20


def test_the_log_does_not_fill_where_local_takes_nobody(make):
    daemon = moved(make)
    daemon.stop()
    with daemon.control() as db:
        db.execute("update accounts set provisioned_epoch = 0")
    daemon.auth("create trigger no before update on users begin"
                " select raise(abort, 'no'); end")
    daemon.start()
    login = Login(daemon, 900001)
    for _ in range(30):
        assert login.asked(daemon.all[0])["answer"] == "unavailable"
        time.sleep(0.2)
    said = (daemon.folder / "log").read_text()
    assert 1 <= said.count("not made known to local") < 30
    daemon.auth("drop trigger no")
    daemon.wait_for(daemon.all[0], provisioned=True)


# --- the sealing key

def test_a_key_that_the_daemon_does_not_take_is_told(make, tmp_path):
    password = tmp_path / "master"
    password.write_text("secret\n")
    daemon = make()
    daemon.conf.write_text(
        daemon.conf.read_text() +
        f"local: {{imap: 'imap://127.0.0.1:1', master_user: boss,"
        f" master_password_file: {password}}}\n")
    daemon.start()
    password.unlink()
    done = daemon.cli("domain", "close", "b.test", "--force", "--reason", "x",
                      status=1)
    assert done["state"] == "closed" and "log says" in done["key_error"]
    assert len(daemon.cli("key", "show")["keys"]) == 2
    password.write_text("secret\n")
    done = daemon.cli("domain", "close", "b.test", "--force", "--reason", "x")
    assert done["key"] == "rotating"


def test_a_key_file_that_cannot_be_read_is_told_each_time(make):
    daemon = make()
    daemon.start()
    key = daemon.folder / "keys" / "mailhaul.key"
    key.rename(daemon.folder / "elsewhere")
    for _ in range(2):
        done = daemon.cli("domain", "close", "b.test", "--force", "--reason",
                          "x", status=1)
        assert done["state"] == "closed" and str(key) in done["key_error"]
    (daemon.folder / "elsewhere").rename(key)
    done = daemon.cli("domain", "close", "b.test", "--force", "--reason", "x")
    assert done["key"] == "rotating"
