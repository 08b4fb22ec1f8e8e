"""What legacy receives after the flip, and what happens there before it."""

import random
import time

import pytest

from lib.mailbox import append, expunge, store, uids_of
from lib.snapshot import differences, quote
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "delta_seconds": 1, "more_users": 20}
ODD = ["Work/2024/Quarter 1", "a \"b\" (c)", "&ANw-ml&AOQ-ute", "x%y*z",
       ".dotted", "deep/deep/deep/deep"]


@pytest.fixture
def user(shared_world):
    """One of the many legacy users, unknown to mailhaul yet."""
    shared_world.count = getattr(shared_world, "count", 0) + 1
    return f"user{shared_world.count:03}"


def copied(world, user):
    world.imap(user).logout()
    return world.wait_account(user, copy="delta", clean=True)


def flip(world, user):
    world.mailhaul("cutover", world.address(user))
    return world.wait_account(user, route="local", provisioned=True)


def texts(world, user, side="local", folder="INBOX"):
    """uid -> (subject, flags) of a folder."""
    imap = world.imap(user, side)
    try:
        if imap.select(quote(folder), readonly=True)[0] != "OK":
            return {}
        found = {}
        for uid in imap.uid("SEARCH", "ALL")[1][0].split():
            answer = imap.uid("FETCH", uid.decode(), "(FLAGS BODY.PEEK"
                              "[HEADER.FIELDS (SUBJECT)])")[1][0]
            subject = answer[1].decode().partition(":")[2].strip()
            flags = answer[0].decode().partition("FLAGS (")[2]
            flags = frozenset(flags.partition(")")[0].split())
            found[int(uid)] = (subject, flags - {"\\Recent"})
        return found
    finally:
        imap.logout()


def subjects(world, user, side="local", folder="INBOX"):
    return sorted(s for s, _ in texts(world, user, side, folder).values())


def trailed(world, user, reached, wait_s=60):
    """Passes of the trail over every folder, until that is true."""
    def look():
        row = world.account(user)
        if not any(j["running"] for j in row["jobs"]):
            world.mailhaul("migrate", world.address(user))
        return reached()
    return wait_until(look, wait_s, 0.3, lambda: world.account(user))


def test_every_folder_also_new_and_odd_ones_with_flags_and_dates(
        shared_world, user):
    world = shared_world
    legacy = world.imap(user, "legacy")
    for folder in ODD[:3]:
        legacy.create(quote(folder))
        append(legacy, folder, "before")
    copied(world, user)
    flip(world, user)
    date = '"03-Mar-2011 04:05:06 +0530"'
    for folder in ODD:
        legacy.create(quote(folder))
        legacy.subscribe(quote(folder))
        append(legacy, folder, f"late {folder}", "(\\Seen \\Flagged work)",
               date)
    legacy.logout()
    trailed(world, user, lambda: all(
        any(s.startswith("late") for s in subjects(world, user, folder=f))
        for f in ODD))
    for folder in ODD:
        late = [(s, f) for s, f in texts(world, user, folder=folder).values()
                if s.startswith("late")]
        assert late == [(f"late {folder}", {"\\Seen", "\\Flagged",
                                            "work"})], folder
    boxes = world.snapshot(user, "local", bodies=False)
    dates = {m.internal_date for f in ODD for m in boxes[f].messages.values()}
    assert "03-Mar-2011 04:05:06 +0530" in dates or any(
        "2011" in d for d in dates)


def test_what_the_user_moved_or_deleted_does_not_come_back(shared_world,
                                                           user):
    world = shared_world
    with world.imap(user, "legacy") as legacy:
        for n in range(6):
            append(legacy, "INBOX", f"m{n}")
    copied(world, user)
    flip(world, user)
    imap = world.imap(user)
    imap.create("Kept")
    imap.select("INBOX")
    imap.uid("COPY", "1:2", "Kept")
    expunge(imap, "INBOX", [1, 2, 3])
    imap.logout()
    with world.imap(user, "legacy") as legacy:
        append(legacy, "INBOX", "late")
    trailed(world, user, lambda: "late" in subjects(world, user))
    expunge_late(world, user)
    with world.imap(user, "legacy") as legacy:
        append(legacy, "INBOX", "later")
        store(legacy, "INBOX", [4], "+FLAGS", "(\\Deleted)")
    trailed(world, user, lambda: "later" in subjects(world, user))
    assert subjects(world, user) == ["later", "m3", "m4", "m5"]
    assert subjects(world, user, folder="Kept") == ["m0", "m1"]
    assert not any("\\Deleted" in f for _, f in texts(world, user).values())


def expunge_late(world, user):
    uid = next(u for u, (s, _) in texts(world, user).items() if s == "late")
    imap = world.imap(user)
    expunge(imap, "INBOX", [uid])
    imap.logout()


def test_a_worker_killed_in_the_trail_appends_exactly_once(shared_world,
                                                           user):
    world = shared_world
    copied(world, user)
    flip(world, user)
    with world.imap(user, "legacy") as legacy:
        for n in range(60):
            append(legacy, "INBOX", f"m{n:02}")
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)

    def look():
        time.sleep(chance.uniform(0, 0.1))
        if chance.random() < 0.6 and len(subjects(world, user)) < 55:
            world.kill("worker")
        return len(set(subjects(world, user))) == 60
    trailed(world, user, look, 90)
    trailed(world, user, lambda: world.account(user)["last_error"] is None)
    assert subjects(world, user) == [f"m{n:02}" for n in range(60)]


def renew_uidvalidity(world, user, folder):
    """The folder is deleted and made again, with the same messages."""
    said = subjects(world, user, "legacy", folder)
    with world.imap(user, "legacy") as legacy:
        legacy.delete(quote(folder))
        time.sleep(1.1)  # Dovecot's UIDVALIDITY is the time
        legacy.create(quote(folder))
        for text in said:
            append(legacy, folder, text)


def filled(world, user, *folders):
    with world.imap(user, "legacy") as legacy:
        for folder in ("INBOX", *folders):
            legacy.create(quote(folder))
            for n in range(5):
                append(legacy, folder, f"{folder} {n}")


def test_uidvalidity_changed_after_the_flip_doubles_nothing(shared_world,
                                                            user):
    world = shared_world
    filled(world, user, "Work")
    copied(world, user)
    flip(world, user)
    renew_uidvalidity(world, user, "Work")
    with world.imap(user, "legacy") as legacy:
        append(legacy, "INBOX", "late")
    trailed(world, user, lambda: "UIDVALIDITY" in (
        world.account(user)["last_error"] or ""))
    assert "Work" in world.account(user)["last_error"]
    # the other folders go on
    trailed(world, user, lambda: "late" in subjects(world, user))
    assert subjects(world, user, folder="Work") == [
        f"Work {n}" for n in range(5)]


def test_folders_before_the_flip_follow_legacy(shared_world, user):
    """Renamed, deleted, made, and one with a new UIDVALIDITY."""
    world = shared_world
    filled(world, user, "Old", "Gone", "Work", "Other")
    copied(world, user)
    with world.imap(user, "legacy") as legacy:
        legacy.rename("Old", "New/Name")
        legacy.delete("Gone")
        legacy.create("Made")
        append(legacy, "Made", "in it")
        store(legacy, "Other", [1], "+FLAGS", "(\\Answered)")
    renew_uidvalidity(world, user, "Work")
    before = world.snapshot(user, "legacy")
    wait_until(lambda: (lambda a: a["clean"] and a["messages"] == 21)(
        world.account(user)), 60, 0.2, lambda: world.account(user))
    flip(world, user)
    after = world.snapshot(user)
    assert differences(before, after) == []
    assert world.mailhaul("verify", "--full", world.address(user))
    assert "Gone" not in after and "Old" not in after


def test_more_keywords_than_a_maildir_can_hold_come_over(shared_world, user):
    world = shared_world
    with world.imap(user, "legacy") as legacy:
        for n in range(40):
            append(legacy, "INBOX", f"m{n}", f"(\\Seen word{n} all)")
    before = world.snapshot(user, "legacy")
    copied(world, user)
    flip(world, user)
    trailed(world, user, lambda: not [
        d for d in differences(before, world.snapshot(user, "local"))], 30)
    assert world.mailhaul("verify", "--full", world.address(user))


# ---- pause, resume, remove

def test_pausing_stops_every_phase_and_resuming_goes_on(shared_world, user):
    world = shared_world
    address = world.address(user)
    world.fill(user, messages=200, folders=5, total=1_000_000)
    world.imap(user).logout()
    world.mailhaul("account", "pause", address)  # in the first copy
    assert world.account(user)["copy"] == "paused"
    wait_until(lambda: not [j for j in world.account(user)["jobs"]
                            if j["kind"] == "initial"])
    world.mailhaul("account", "resume", address)
    world.wait_account(user, copy="delta", clean=True)
    world.mailhaul("account", "pause", address)  # between deltas
    with world.imap(user, "legacy") as legacy:
        append(legacy, "INBOX", "while paused")
    done = world.mailhaul("cutover", address, check=False)
    assert done.returncode == 1 and "paused" in done.stdout
    assert world.account(user)["copy"] == "paused"
    assert world.imap(user).noop()[0] == "OK"
    before = world.snapshot(user, "legacy")
    world.mailhaul("account", "resume", address)
    world.wait_account(user, copy="delta", clean=True)
    flip(world, user)
    assert differences(before, world.snapshot(user)) == []
    world.mailhaul("account", "pause", address)  # in the trail
    with world.imap(user, "legacy") as legacy:
        append(legacy, "INBOX", "late")
    time.sleep(1)
    assert world.account(user)["route"] == "local"
    assert "late" not in subjects(world, user)
    world.mailhaul("account", "resume", address)
    trailed(world, user, lambda: "late" in subjects(world, user))


def test_removing_is_for_those_on_legacy_and_the_next_login_begins_anew(
        shared_world, user):
    world = shared_world
    address = world.address(user)
    filled(world, user, "Work")
    copied(world, user)
    wait_until(lambda: world.mailhaul("account", "remove", address,
                                      check=False).returncode == 0, 30, 0.1)
    assert world.account(user) is None
    before = world.snapshot(user, "legacy")
    copied(world, user)
    flip(world, user)
    assert differences(before, world.snapshot(user)) == []
    done = world.mailhaul("account", "remove", address, check=False)
    assert done.returncode == 1
    assert world.account(user)["route"] == "local"


# ---- local's doors

@pytest.mark.world(local_tls="starttls", cutover="auto", delta_seconds=1)
def test_the_trail_reaches_local_by_starttls(world):
    reach_local(world)


@pytest.mark.world(local_tls="implicit", cutover="auto", delta_seconds=1)
def test_the_trail_reaches_local_by_tls(world):
    reach_local(world)


def reach_local(world):
    world.move("alice")
    world.send("alice", "legacy", serial="late")
    wait_until(lambda: "late" in subjects(world, "alice"), 60, 0.3,
               world.log_tail)


QUOTA = """\
mail_plugins = $mail_plugins quota
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=100K
  quota_grace = 0
  quota_max_mail_size = 40k
}
"""


@pytest.mark.world(local_conf=QUOTA, cutover="auto", delta_seconds=1)
def test_over_quota_is_tried_again_and_too_large_is_set_aside(world):
    with world.imap("alice", "legacy") as legacy:
        append(legacy, "INBOX", "big " + "x" * 20000)
        append(legacy, "INBOX", "big " + "x" * 20000)
    world.move("alice")
    with world.imap("alice", "legacy") as legacy:
        append(legacy, "INBOX", "late " + "y" * 15000)
        append(legacy, "INBOX", "huge " + "z" * 30000)
        append(legacy, "INBOX", "small")
    trailed(world, "alice", lambda: "small" in subjects(world, "alice"))
    trailed(world, "alice", lambda: world.account("alice")["set_aside"] == 1)
    row = wait_until(lambda: (lambda a: a if a["last_error"] else None)(
        world.account("alice")))
    assert row["last_error_kind"] == "retry" and "quota" in \
        row["last_error"].lower()
    imap = world.imap("alice")
    expunge(imap, "INBOX", [1, 2])
    imap.logout()
    trailed(world, "alice", lambda: any(
        s.startswith("late") for s in subjects(world, "alice")))
    assert len(subjects(world, "alice")) == 2


@pytest.mark.world(legacy_conf="protocol pop3 {\n  pop3_lock_session = yes\n}"
                   "\n", **WORLD)
def test_uidls_wait_while_legacy_says_in_use(world):
    world.fill("alice", messages=40, folders=2, total=100_000)
    pop = world.pop3("alice", "legacy")
    world.imap("alice").logout()
    wait_until(lambda: world.account("alice")["last_error"] or
               world.account("alice")["copy"] == "delta", 60)
    assert pop.noop().startswith(b"+OK")
    uidls = [line.split()[1] for line in pop.uidl()[1]]
    pop.quit()
    world.mailhaul("migrate", "alice@example.test")
    world.wait_account("alice", copy="delta", clean=True)
    flip(world, "alice")
    pop = world.pop3("alice")
    assert [line.split()[1] for line in pop.uidl()[1]] == uidls
    pop.quit()
