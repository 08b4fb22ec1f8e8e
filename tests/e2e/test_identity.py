"""An address is given to somebody else on legacy, renamed or deleted there, or
its mailbox is made anew: nobody gets another's mail, nobody loses his own."""

import contextlib
import shutil
import time

import pytest

from lib.old_domains import imap_answer, is_refusal
from lib.snapshot import differences
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 12, "delta_seconds": 1,
         "trail_inbox_seconds": 1, "trail_seconds": 2}


@pytest.fixture
def user(request, shared_world):
    names = [f"user{n:03}" for n in range(1, 13)]
    taken = getattr(shared_world, "taken", set())
    shared_world.taken = taken
    name = next(n for n in names if n not in taken)
    taken.add(name)
    return name


def append(imap, folder, text):
    body = f"Subject: {text}\r\n\r\n{text}, in full\r\n".encode()
    assert imap.append(folder, "", None, body)[0] == "OK"


def put(world, user, texts, side="legacy", **login):
    with world.imap(user, side, **login) as imap:
        imap.create("Work")
        for text in texts:
            append(imap, "Work" if text.startswith("work") else "INBOX", text)


MINE = [f"mine {n}" for n in range(6)] + [f"work {n}" for n in range(4)]


def subjects(world, user, folder="INBOX", side="mailhaul", **login):
    with world.imap(user, side, **login) as imap:
        said, count = imap.select(folder, readonly=True)
        if said != "OK" or int(count[0]) == 0:
            return []
        rows = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        return sorted(r[1].decode().split(": ", 1)[1].strip()
                      for r in rows if isinstance(r, tuple))


def everything(world, user, side="mailhaul", **login):
    return (subjects(world, user, "INBOX", side, **login)
            + subjects(world, user, "Work", side, **login))


def legacy_home(world, user):
    return world.legacy_dovecot.folder / "mail" / world.address(user)


def wipe_legacy(world, user):
    """The provider deletes the mailbox."""
    with world.imap(user, "legacy"):
        pass
    gone = legacy_home(world, user)
    gone.rename(gone.with_name(f"gone-{time.monotonic_ns()}"))
    time.sleep(3.1)  # Dovecot's UIDVALIDITY is about the time


@contextlib.contextmanager
def resting(world, user):
    """No pass sees a mailbox of which half is there."""
    world.mailhaul("account", "pause", world.address(user))
    wait_until(lambda: not [j for j in world.account(user)["jobs"]
                            if j["running"]])
    yield
    world.mailhaul("account", "resume", world.address(user))


def stored(world, user):
    """The files of messages in the store: what local would serve."""
    root = world.settings.store
    return sorted(str(p.relative_to(root)) for p in root.rglob("*")
                  if f"/{user}/" in str(p) and p.parent.name in ("cur", "new"))


def copied(world, user, texts=MINE):
    put(world, user, texts)
    world.imap(user).logout()
    world.wait_account(user, copy="delta", clean=True, messages=len(texts))


def flip(world, user):
    world.mailhaul("cutover", world.address(user))
    world.wait_account(user, route="local", provisioned=True)


def wait_question(world, user, copy):
    row = world.wait_account(user, copy=copy, question="identity")
    assert "answers its question" in row["sentence"]
    assert "account accept" in row["sentence"]
    stuck = world.mailhaul("status")
    assert world.address(user) in str(stuck)
    return row


def audit(world, user):
    return [e["event"] for e in
            world.mailhaul("audit", world.address(user))["entries"]]


# ---- given to somebody else

def test_regiven_before_the_flip_with_the_same_password(shared_world, user):
    world = shared_world
    copied(world, user)
    files = stored(world, user)
    assert len(files) == len(MINE)
    wipe_legacy(world, user)
    put(world, user, ["theirs 0", "theirs 1"])
    row = wait_question(world, user, "failed")
    assert row["route"] == "legacy" and "0 are found again" in row["last_error"]
    assert "asked" in audit(world, user)
    # legacy still serves whoever it knows; nothing local has changed
    assert subjects(world, user) == ["theirs 0", "theirs 1"]
    assert stored(world, user) == files
    # looked at again, asked again
    world.mailhaul("account", "resume", world.address(user))
    wait_question(world, user, "failed")
    assert stored(world, user) == files
    done = world.mailhaul("account", "accept", world.address(user), "identity")
    assert done["question"] is None
    row = world.wait_account(user, copy="delta", clean=True, messages=2)
    assert row["question"] is None
    assert "account accept" in audit(world, user)
    flip(world, user)
    assert everything(world, user) == ["theirs 0", "theirs 1"]


def test_regiven_before_the_flip_with_another_password(shared_world, user):
    world = shared_world
    copied(world, user)
    files = stored(world, user)
    world.set_legacy_password(user, "somebody-else")
    row = world.wait_account(user, copy="failed")
    gone = legacy_home(world, user)
    gone.rename(gone.with_name(f"gone-{user}"))
    put(world, user, ["theirs"], password="somebody-else")
    assert row["question"] is None and "refuses the password" in row["sentence"]
    # who has the new password is in, and sees his own
    assert subjects(world, user, password="somebody-else") == ["theirs"]
    wait_question(world, user, "failed")
    assert stored(world, user) == files
    world.mailhaul("account", "remove", world.address(user))
    assert stored(world, user) == files


def test_regiven_after_the_flip(shared_world, user):
    world = shared_world
    copied(world, user)
    flip(world, user)
    mine = everything(world, user)
    wipe_legacy(world, user)
    put(world, user, ["theirs"])
    wait_question(world, user, "paused")
    assert everything(world, user) == mine
    done = world.mailhaul("rollback", world.address(user), check=False)
    assert done.returncode != 0
    # the other's password opens nothing here, though legacy takes it
    world.set_legacy_password(user, "somebody-else")
    assert is_refusal(imap_answer(world, world.address(user),
                                  "somebody-else")[0])
    world.mailhaul("account", "forget-legacy", world.address(user))
    row = world.wait_account(user, copy="done", question=None)
    assert not row["password_sealed"] and row["route"] == "local"
    assert "account forget-legacy" in audit(world, user)
    assert everything(world, user) == mine
    assert is_refusal(imap_answer(world, world.address(user),
                                  "somebody-else")[0])


def test_another_password_is_not_learnt_before_the_trail_has_looked(
        shared_world, user):
    """Local refuses, legacy accepts: it is another mailbox's password."""
    world = shared_world
    copied(world, user)
    flip(world, user)
    mine = everything(world, user)
    world.mailhaul("account", "pause", world.address(user))
    wipe_legacy(world, user)
    world.set_legacy_password(user, "somebody-else")
    put(world, user, ["theirs"], password="somebody-else")
    assert is_refusal(imap_answer(world, world.address(user),
                                  "somebody-else")[0])
    assert is_refusal(imap_answer(world, world.address(user),
                                  "somebody-else")[0])
    assert everything(world, user) == mine


# ---- the same mail, made anew

def test_made_anew_with_the_same_mail_before_the_flip(shared_world, user):
    world = shared_world
    copied(world, user)
    with resting(world, user):
        wipe_legacy(world, user)
        put(world, user, MINE + ["new"])
    wait_until(lambda: "mailbox-renewed" in audit(world, user), 60)
    world.wait_account(user, copy="delta", clean=True, messages=len(MINE) + 1)
    before = world.snapshot(user, "legacy")
    flip(world, user)
    assert differences(before, world.snapshot(user)) == []
    assert world.mailhaul("verify", "--full", world.address(user))


def test_made_anew_with_the_same_mail_after_the_flip(shared_world, user):
    world = shared_world
    copied(world, user)
    flip(world, user)
    with world.imap(user) as imap:  # deleted here, and stays so
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "(\\Deleted)")
        imap.expunge()
    with resting(world, user):
        wipe_legacy(world, user)
        put(world, user, MINE + ["late", "work late"])
    wanted = sorted(MINE[1:6] + ["late"]) + sorted(MINE[6:] + ["work late"])
    wait_until(lambda: everything(world, user) == wanted, 60, 0.2,
               lambda: (everything(world, user), world.account(user)))
    assert "mailbox-renewed" in audit(world, user)
    wait_until(lambda: world.account(user)["last_error"] is None)
    put(world, user, ["later"])
    wait_until(lambda: "later" in subjects(world, user), 60)
    row = world.account(user)
    assert row["question"] is None and row["copy"] == "trail"
    assert everything(world, user) == sorted(wanted[:6] + ["later"]) + wanted[6:]


# ---- renamed, deleted

def rename_on_legacy(world, user, new):
    path = world.legacy_dovecot.folder / "users"
    rows = path.read_text().replace(f"{world.address(user)}:",
                                    f"{world.address(new)}:")
    path.write_text(rows)
    home = legacy_home(world, user)
    home.rename(legacy_home(world, new))
    time.sleep(1.1)  # Dovecot looks at the file once a second at most


def test_renamed_before_the_flip(shared_world, user):
    world, new = shared_world, "renamed"
    copied(world, user)
    password = world.password(user)
    world.mailhaul("name", "add", "oldtimer", world.address(user))
    rename_on_legacy(world, user, new)
    world.wait_account(user, copy="failed")
    for target in (world.address("alice"), "x@unserved.test", "nonsense/"):
        world.imap("alice").logout()
        assert world.mailhaul("account", "rename", world.address(user), target,
                              check=False).returncode != 0
    world.mailhaul("account", "rename", world.address(user),
                   world.address(new))
    assert world.account(user) is None
    assert world.account(new)["names"] == ["oldtimer"]
    world.imap(new, password=password).logout()
    world.wait_account(new, copy="delta", clean=True, messages=len(MINE))
    assert "account rename" in audit(world, user)
    before = world.imap(new, "legacy", password=password)
    before.select("INBOX", readonly=True)
    told = before.untagged_responses["UIDVALIDITY"], before.uid(
        "SEARCH", None, "ALL")[1]
    before.logout()
    flip(world, new)
    assert len(everything(world, new, password=password)) == len(MINE)
    after = world.imap(new, password=password)
    after.select("INBOX", readonly=True)
    assert (after.untagged_responses["UIDVALIDITY"],
            after.uid("SEARCH", None, "ALL")[1]) == told
    assert is_refusal(imap_answer(world, world.address(user), password)[0])
    # on the new server: another name to log in by, and on legacy
    done = world.mailhaul("account", "rename", world.address(new),
                          world.address("third"), check=False)
    assert done.returncode == 1 and "name add" in done.stdout + done.stderr
    world.mailhaul("account", "rename", world.address(new),
                   world.address(new), "--legacy-user", "third@example.test")
    assert world.account(new)["legacy_user"] == "third@example.test"


def test_deleted_before_the_flip(shared_world, user):
    world = shared_world
    copied(world, user)
    files = stored(world, user)
    path = world.legacy_dovecot.folder / "users"
    path.write_text("".join(
        row for row in path.read_text().splitlines(True)
        if not row.startswith(world.address(user) + ":")))
    row = world.wait_account(user, copy="failed")
    assert "the old server refuses the password" in row["sentence"]
    assert row["route"] == "legacy" and stored(world, user) == files
    assert is_refusal(imap_answer(world, world.address(user),
                                  world.password(user))[0])
    shutil.rmtree(legacy_home(world, user))
