"""Several passwords an account, master users, foreign hashes, locks."""

import json
import sqlite3
import subprocess
import threading
import time

import pytest
from lib.old_domains import imap_answer, is_refusal, is_temporary
from lib.relay import CountingRelay
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 24, "login_processes": 1,
         "legacy_tls": "none", "delta_seconds": 2}
MASTER = "masters.test"


def answer(world, user, password):
    return imap_answer(world, world.address(user), password)[0]


def gets_in(world, user, password):
    return answer(world, user, password).startswith("OK")


def local_takes(world, user, password, service="imap"):
    """What Dovecot says by itself."""
    done = subprocess.run(
        ["doveadm", "-c", str(world.local_dovecot.conf), "auth", "test", "-x",
         f"service={service}", world.address(user), password],
        capture_output=True)
    return done.returncode == 0


def write_app_users(world, keep, *rows):
    """Always longer: Dovecot sees a change by the file's second and size."""
    path = world.legacy_dovecot.folder / "app-users"
    kept = [r for r in path.read_text().splitlines(True)
            if keep(r) and r[0] != "#"]
    longer = "#" * (path.stat().st_size + 100) + "\n"
    part = path.with_suffix(".part")
    part.write_text("".join([longer, *kept, *rows]))
    part.chmod(0o644)
    part.rename(path)


def add_app_password(world, user, password):
    """One that legacy accepts beside the user's own, instead of another."""
    start = world.address(user) + ":"
    write_app_users(world, lambda row: not row.startswith(start),
                    f"{start}{{PLAIN}}{password}::::::\n")
    wait_until(lambda: subprocess.run(
        ["doveadm", "-c", str(world.legacy_dovecot.conf), "auth", "test",
         world.address(user), password],
        capture_output=True).returncode == 0, 10)


def drop_app_password(world, user):
    start = world.address(user) + ":"
    write_app_users(world, lambda row: not row.startswith(start))
    time.sleep(1.1)  # Dovecot looks at the file once a second


def credentials(world, user):
    return world.account(user)["credentials"]


def hashed(world, user, count):
    """Until so many of its passwords have a hash, and no other is there."""
    return wait_until(lambda: [
        c["hashed"] for c in credentials(world, user)] == [True] * count, 30,
        0.1, lambda: str(credentials(world, user)))


def flip(world, user):
    world.wait_account(user, copy="delta", clean=True)
    world.mailhaul("cutover", world.address(user))
    return world.wait_account(user, route="local", provisioned=True)


def flipped(world, user):
    world.imap(user).logout()
    return flip(world, user)


def password(world, user, new, *args, check=True):
    done = subprocess.run(
        [*cli(world), "account", "password", world.address(user), "--file",
         "-", *args], input=new + "\n", capture_output=True, text=True)
    assert not check or done.returncode == 0, done
    return done


def cli(world):
    from devservers import node
    return [str(node.binaries() / "mailhaul"), "-c", str(world.node.conf),
            "--json"]


# learnt before the flip

def test_two_passwords_of_legacy_are_two_of_local(shared_world):
    world, user = shared_world, "user001"
    add_app_password(world, user, "app-one")
    world.imap(user).logout()
    hashed(world, user, 1)
    assert gets_in(world, user, "app-one")
    hashed(world, user, 2)
    for _ in range(2):  # known ones are no new ones
        assert gets_in(world, user, "app-one")
        assert gets_in(world, user, "pw-user001")
    flip(world, user)
    assert len(credentials(world, user)) == 2
    for one in ("pw-user001", "app-one"):
        assert local_takes(world, user, one)
        assert gets_in(world, user, one)
    assert not local_takes(world, user, "app-two")


def test_a_password_taken_away_on_legacy_is_found_by_the_last_delta(
        shared_world):
    world, user = shared_world, "user002"
    add_app_password(world, user, "app-old")
    world.imap(user).logout()
    hashed(world, user, 1)
    assert gets_in(world, user, "app-old")
    hashed(world, user, 2)
    drop_app_password(world, user)
    flip(world, user)
    assert local_takes(world, user, "pw-user002")
    assert not local_takes(world, user, "app-old")
    assert len(credentials(world, user)) == 1


def test_where_one_is_refused_another_does_the_copying(shared_world):
    world, user = shared_world, "user003"
    add_app_password(world, user, "app-stays")
    world.imap(user).logout()
    hashed(world, user, 1)
    assert gets_in(world, user, "app-stays")
    hashed(world, user, 2)
    world.set_legacy_password(user, "changed-meanwhile")
    flip(world, user)
    assert local_takes(world, user, "app-stays")
    assert not local_takes(world, user, "pw-user003")
    assert world.account(user)["last_error"] is None


def test_the_longest_unused_password_gives_way(shared_world):
    world, user = shared_world, "user004"
    flipped(world, user)
    for n in range(1, 7):
        add_app_password(world, user, f"app-{n}")
        assert gets_in(world, user, f"app-{n}")
        hashed(world, user, min(n + 1, 5))
    assert local_takes(world, user, "pw-user004")
    assert [n for n in range(1, 7) if local_takes(world, user, f"app-{n}")] \
        == [3, 4, 5, 6]


# learnt after the flip

def test_an_app_password_is_learnt_after_the_flip_from_legacy(shared_world):
    world, user = shared_world, "user005"
    flipped(world, user)
    assert gets_in(world, user, "pw-user005")
    world.wait_account(user, password_state="confirmed")
    add_app_password(world, user, "app-late")
    assert gets_in(world, user, "app-late")
    assert local_takes(world, user, "app-late")
    assert local_takes(world, user, "pw-user005")
    drop_app_password(world, user)
    assert gets_in(world, user, "app-late")


def test_without_learn_days_local_alone_decides(shared_world):
    world, user = shared_world, "user006"
    flipped(world, user)
    assert gets_in(world, user, "pw-user006")
    add_app_password(world, user, "app-never")
    world.mailhaul("domain", "set", "example.test", "--learn-days", "0")
    try:
        assert is_refusal(answer(world, user, "app-never"))
    finally:
        world.mailhaul("domain", "set", "example.test", "--learn-days", "30")
    assert gets_in(world, user, "app-never")


def test_wrong_passwords_are_few_questions_to_legacy(shared_world):
    world, user = shared_world, "frank@flood.test"
    relay = CountingRelay(world.legacy["imap"])
    world.add_legacy_user(user, "his-own")
    world.mailhaul("domain", "add", "flood.test", "--cutover", "manual",
                   "--imap", f"imap://127.0.0.1:{relay.port}")
    wait_until(lambda: gets_in(world, user, "his-own"), 10)
    flip(world, user)
    world.mailhaul("account", "pause", user)  # no trail
    assert gets_in(world, user, "his-own")
    time.sleep(0.5)
    before = relay.connections
    for _ in range(3):
        assert is_refusal(answer(world, user, "wrong"))
    assert relay.connections == before + 1
    said = []
    crowd = [threading.Thread(target=lambda n=n: said.append(
        answer(world, user, f"wrong-{n}"))) for n in range(30)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert relay.connections <= before + 10
    assert len(said) == 30
    assert all(is_refusal(a) or is_temporary(a) for a in said), said
    assert gets_in(world, user, "his-own")
    relay.close()


# set by an operator

def test_a_password_set_here_is_the_only_one_and_ends_sessions(shared_world):
    world, user = shared_world, "user008"
    add_app_password(world, user, "app-stolen")
    flipped(world, user)
    assert gets_in(world, user, "app-stolen")
    session = world.imap(user)
    password(world, user, "set-here")
    # in force before the command has answered
    assert local_takes(world, user, "set-here")
    for old in ("pw-user008", "app-stolen"):
        assert not local_takes(world, user, old)
        assert is_refusal(answer(world, user, old))  # legacy is not asked
    assert gets_in(world, user, "set-here")
    with pytest.raises(Exception):
        for _ in range(50):
            session.noop()
            time.sleep(0.1)
    row = world.account(user)
    assert [c["origin"] for c in row["credentials"] if c["hashed"]] == ["local"]
    assert row["local_password_at"]


def test_the_others_can_be_kept(shared_world):
    world, user = shared_world, "user009"
    flipped(world, user)
    password(world, user, "one-more", "--keep", "--label", "phone")
    assert local_takes(world, user, "one-more")
    assert local_takes(world, user, "pw-user009")
    assert "phone" in [c["label"] for c in credentials(world, user)]


def test_who_is_still_on_legacy_has_his_password_there(shared_world):
    world, user = shared_world, "user010"
    world.imap(user).logout()
    done = password(world, user, "not-here", check=False)
    assert done.returncode == 1
    assert "still served by the old server" in done.stdout
    assert not local_takes(world, user, "not-here")


def test_the_trail_goes_on_with_the_password_that_legacy_knows(shared_world):
    world, user = shared_world, "user011"
    flipped(world, user)
    password(world, user, "set-later")
    serial = world.send(user, "legacy")

    def has_come():
        with world.imap(user, "local", password="set-later") as imap:
            imap.select("INBOX", readonly=True)
            return imap.search(None, "HEADER", "X-Serial", serial)[1][0]
    wait_until(has_come, 60, 0.3, lambda: str(world.account(user)))


# locks

def ends_within(session, wait_s):
    began = time.monotonic()
    try:
        while time.monotonic() - began < wait_s:
            session.noop()
            time.sleep(0.05)
    except Exception:
        return time.monotonic() - began
    return None


def test_a_locked_account_gets_mail_but_nobody_in(shared_world):
    world, user = shared_world, "user012"
    flipped(world, user)
    session = world.imap(user)
    wrong = answer(world, "user005", "no such password")
    world.mailhaul("account", "lock", world.address(user), "--login",
                   "--reason", "stolen")
    # within a second; the machine may be busy
    assert ends_within(session, 5) is not None
    assert answer(world, user, "pw-user012") == wrong
    assert not local_takes(world, user, "pw-user012")
    assert local_takes(world, user, "pw-user012", service="smtp")
    world.send(user)
    add_mail(world, user, "pw-user012")
    wait_until(lambda: world.account(user)["late_mail_at"], 60, 0.3,
               lambda: str(world.account(user)))
    assert world.account(user)["login_locked"]
    world.mailhaul("account", "unlock", world.address(user))
    assert gets_in(world, user, "pw-user012")
    said = world.mailhaul("audit", world.address(user))
    assert any(e["event"] == "account lock" and e["reason"] == "stolen"
               for e in said["entries"]), said


def test_a_lock_of_submission_leaves_reading(shared_world):
    world, user = shared_world, "user013"
    flipped(world, user)
    world.mailhaul("account", "lock", world.address(user), "--submission")
    assert gets_in(world, user, "pw-user013")
    assert not local_takes(world, user, "pw-user013", service="smtp")
    assert local_takes(world, user, "pw-user013")
    world.mailhaul("account", "lock", world.address(user), "--all")
    assert is_refusal(answer(world, user, "pw-user013"))


def test_a_lock_holds_on_the_old_side_too_and_across_restarts(shared_world):
    world, user = shared_world, "user014"
    session = world.imap(user)
    world.wait_account(user, copy="delta")
    world.mailhaul("account", "lock", world.address(user), "--login")
    assert ends_within(session, 5) is not None
    assert is_refusal(answer(world, user, "pw-user014"))
    world.kill("state")
    assert wait_until(lambda: is_refusal(
        answer(world, user, "pw-user014")), 20)
    flip(world, user)
    assert not local_takes(world, user, "pw-user014")


# a master user on legacy

def master_domain(world, name, *args, secret="pw-boss"):
    file = world.folder / f"{name}.secret"
    file.write_text(secret + "\n")
    file.chmod(0o600)
    world.mailhaul("domain", "add", name, "--cutover", "manual",
                   "--imap", f"imap://127.0.0.1:{world.legacy['imap']}",
                   "--pop3", f"pop3://127.0.0.1:{world.legacy['pop3']}",
                   "--master-user", "boss", "--master-password-file", file,
                   *args)
    file.unlink()


def by_list(world, *rows):
    path = world.folder / "list.csv"
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    return world.mailhaul("migrate", "--csv", path)


def add_mail(world, user, passphrase):
    with world.imap(user, "legacy", password=passphrase) as imap:
        imap.append("INBOX", "", None, b"Subject: one\r\n\r\none\r\n")


@pytest.mark.parametrize("name, template", [
    (MASTER, ()), ("templates.test", ("--master-login", "{user}*{master}"))])
def test_with_a_master_user_nobodys_password_is_needed(shared_world, name,
                                                       template):
    world, user = shared_world, f"mona@{name}"
    world.add_legacy_user(user, "her-secret")
    time.sleep(1.1)
    add_mail(world, user, "her-secret")
    master_domain(world, name, *template)
    by_list(world, [user])
    flip(world, user)
    row = world.account(user)
    assert row["messages"] == 1 and not row["credentials"]
    add_mail(world, user, "her-secret")  # the trail needs no password either
    wait_until(lambda: world.account(user)["late_mail_at"], 60, 0.3,
               lambda: str(world.account(user)))
    assert is_refusal(answer(world, user, "wrong"))
    assert gets_in(world, user, "her-secret")  # learnt
    assert local_takes(world, user, "her-secret")
    world.wait_account(user, password_state="confirmed")


def test_a_master_user_who_is_refused_stops_the_copy_by_name(shared_world):
    world, user = shared_world, "nora@wrong.test"
    world.add_legacy_user(user, "x")
    master_domain(world, "wrong.test", secret="not-his")
    by_list(world, [user])
    row = world.wait_account(user, copy="failed")
    assert "master user" in row["last_error"]


def test_without_learning_a_mailbox_without_a_password_is_not_flipped(
        shared_world):
    world, user = shared_world, "olga@closed.test"
    world.add_legacy_user(user, "x")
    master_domain(world, "closed.test", "--learn-days", "0")
    by_list(world, [user])
    world.wait_account(user, copy="delta", clean=True)
    world.mailhaul("cutover", user)
    wait_until(lambda: "flip=not_learnt" in world.log_tail(200), 30)
    assert world.account(user)["route"] == "legacy"


# hashes of another system

def crypt_hash(method, word="foreign pass"):
    return subprocess.run(["doveadm", "pw", "-s", method, "-p", word],
                          check=True, capture_output=True,
                          text=True).stdout.strip()


@pytest.mark.parametrize("user, scheme", [
    ("ssha", "SSHA"), ("md5", "MD5-CRYPT"), ("blf", "BLF-CRYPT"),
    ("sha256", "SHA256-CRYPT"), ("sha512", "SHA512-CRYPT"), ("des", "CRYPT")])
def test_a_hash_of_a_list_is_verified_by_dovecot_as_it_is(
        shared_world, user, scheme):
    world, address = shared_world, f"{user}@hashes.test"
    if not world.mailhaul("domain", "show", "hashes.test",
                          check=False).returncode == 0:
        master_domain(world, "hashes.test")
    hash_ = crypt_hash(scheme)
    if scheme == "BLF-CRYPT":
        hash_ = hash_.replace("$2a$", "$2y$").replace("$2b$", "$2y$")
    world.add_legacy_user(address, "another one on legacy")
    time.sleep(1.1)
    by_list(world, [address, "", hash_])
    flip(world, address)
    assert local_takes(world, address, "foreign pass")
    assert not local_takes(world, address, "foreign-pass")
    assert gets_in(world, address, "foreign pass")
    assert [c["origin"] for c in credentials(world, address)] == ["imported"]


@pytest.mark.parametrize("value, says", [
    ("{PBKDF2}$1$x$1$y", "{PBKDF2} are not taken"),
    ("{SHA512-CRYPT}$6$salt$short", "not a hash of that scheme"),
    ("{SHA512-CRYPT}$6$rounds=99999999$salt$" + "a" * 86, "rounds")])
def test_other_hashes_are_refused_by_name(shared_world, value, says):
    world = shared_world
    path = world.folder / "bad.csv"
    path.write_text(f'peter@example.test,,"{value}"\n')
    done = world.mailhaul("migrate", "--csv", path, check=False)
    assert done.returncode == 1 and says in done.stdout, done
    assert "line 1" in done.stdout
    assert value[-12:] not in done.stdout
    assert world.account("peter") is None


# the scheme of our own hashes

@pytest.mark.parametrize("user, scheme, cost, start", [
    ("user015", "YESCRYPT", 1, "{CRYPT}$y$j7"),
    ("user016", "BCRYPT", 4, "{CRYPT}$2b$04$")])
def test_a_hash_is_renewed_when_the_setting_has_changed(
        shared_world, user, scheme, cost, start):
    world = shared_world
    world.imap(user).logout()
    hashed(world, user, 1)
    conf = world.node.conf.read_text()
    was = stored_hash(world, user)
    assert was.startswith("{SHA512-CRYPT}$6$rounds=1000$")
    try:
        world.node.conf.write_text(
            conf.replace("scheme: SHA512-CRYPT", f"scheme: {scheme}")
            .replace("cost: 1000", f"cost: {cost}"))
        world.restart_node()
        world.imap(user).logout()
        wait_until(lambda: stored_hash(world, user) != was, 30)
        assert stored_hash(world, user).startswith(start)
        assert len(credentials(world, user)) == 1
        flip(world, user)
        assert local_takes(world, user, f"pw-{user}")
    finally:
        world.node.conf.write_text(conf)
        world.restart_node()


def stored_hash(world, user):
    with sqlite3.connect(world.settings.auth_db) as db:
        return db.execute("SELECT password FROM users WHERE username = ?",
                          [world.address(user)]).fetchone()[0]


# nothing of it is told

def test_no_secret_is_in_audit_log_or_answers(shared_world):
    world = shared_world
    told = json.dumps(world.mailhaul("audit", "--limit", "5000"))
    told += json.dumps([world.account(f"user{n:03}") for n in range(1, 16)])
    told += world.node.log.read_text(errors="replace")
    for secret in ("app-one", "set-here", "pw-boss", "her-secret", "$6$",
                   "one-more", "foreign pass"):
        assert secret not in told, secret
    stored = (world.folder / "state" / "control.db").read_bytes()
    for secret in ("set-here", "pw-boss", "app-one"):
        assert secret.encode() not in stored
