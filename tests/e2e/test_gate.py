"""The gate before a flip: what is set aside and accepted by name, both sides
compared, room kept for live mail, local asked whether it serves the account."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from fakes.sick_imap import SickImap
from lib.mailbox import append
from lib.old_domains import imap_answer, serve
from lib.small_disk import SmallDisk
from lib.snapshot import differences
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "delta_seconds": 1}


def sick(world, domain, legacy, cutover="manual"):
    serve(world, domain, legacy)
    world.mailhaul("domain", "set", domain, "--cutover", cutover)
    user = f"ann@{domain}"
    assert imap_answer(world, user, "any")[0].startswith("OK")
    return user


def stuck(world, address):
    rows = world.mailhaul("status")["stuck"]
    return next((r for r in rows if r["address"] == address), None)


def log_of(world):
    return world.node.log.read_text(errors="replace")


def maildir_of(world, user):
    local, _, domain = world.address(user).partition("@")
    return world.settings.store / domain / local / "Maildir"


class AtLast:
    """For SickImap.waits: run `action` when the last delta has come to that
    verb, while its account is held."""

    def __init__(self, world, user, action):
        self.world, self.user, self.action = world, user, action
        self.is_done = False

    def wait(self):
        if not self.is_done and self.world.account(self.user)["copy"] == \
                "final":
            self.is_done = True
            self.action()


# ---- what is set aside

def test_items_are_accepted_by_their_names(shared_world):
    world = shared_world
    with SickImap() as legacy:
        legacy.fault = {7: "refused", 9: "cut"}
        user = sick(world, "names.test", legacy)
        row = world.wait_account(user, copy="delta", set_aside=2)
        items = [i["item"] for i in row["items"]]
        assert items == [f"INBOX/{legacy.uidvalidity}/{n}" for n in (7, 9)]
        assert all(i["reason"] and i["accepted_at"] is None
                   for i in row["items"])
        assert stuck(world, user)
        # a slip accepts nothing, and hears the real names
        done = world.mailhaul("account", "accept", user, items[0],
                              "INBOX/1/8", check=False)
        assert done.returncode == 1
        said = json.loads(done.stdout)["error"]
        assert all(item in said for item in items), said
        assert world.account(user)["accepted"] == 0
        # one of two opens nothing
        world.mailhaul("account", "accept", user, items[0])
        done = world.mailhaul("cutover", user, check=False)
        assert json.loads(done.stdout)["accounts"][0]["cutover"] == "set_aside"
        row = world.mailhaul("account", "accept", user, items[1], "--reason",
                             "he knows")
        assert all(i["accepted_by"] for i in row["items"])
        assert not stuck(world, user)
        world.mailhaul("cutover", user)
        world.wait_account(user, route="local", provisioned=True)
        accepts = [e for e in world.mailhaul("audit", user)["entries"]
                   if e["event"] == "account accept"]
        assert sorted(e["detail"] for e in accepts) == items
        assert {e["reason"] for e in accepts} == {"he knows", None}


def test_an_item_that_is_new_in_the_last_delta_gives_the_hold_back(
        shared_world):
    world = shared_world
    with SickImap() as legacy:
        user = sick(world, "late.test", legacy)
        world.wait_account(user, copy="delta", clean=True)

        def another():
            legacy.fault[21] = "refused"
            legacy.uids.append(21)
        legacy.waits = {"LIST": AtLast(world, user, another)}
        world.mailhaul("cutover", user)
        row = world.wait_account(user, route="legacy", copy="delta",
                                 set_aside=1)
        assert legacy.waits["LIST"].is_done
        assert "something new is set aside" in log_of(world)
        # accepted, it flips with what was asked before
        world.mailhaul("account", "accept", user, row["items"][0]["item"])
        world.mailhaul("cutover", user)
        world.wait_account(user, route="local", provisioned=True)


# ---- both sides compared

def cut_a_file(maildir):
    """As a disk that forgets: neither the directory nor the ledger tells."""
    path = max((maildir / "cur").iterdir(), key=lambda p: p.stat().st_size)
    os.truncate(path, 10)


def forget_a_line(maildir):
    path = maildir / "dovecot-uidlist"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))


def change_uidvalidity(maildir):
    path = maildir / "dovecot-uidlist"
    head, _, rest = path.read_bytes().partition(b"\n")
    words = [w if not w.startswith(b"V") else b"V1" for w in head.split(b" ")]
    path.write_bytes(b" ".join(words) + b"\n" + rest)


@pytest.mark.parametrize("user, damage", [
    ("alice", cut_a_file), ("bob", forget_a_line),
    ("carol", change_uidvalidity)])
def test_a_store_that_is_not_as_copied_is_found_and_mended_before_the_flip(
        shared_world, user, damage):
    world = shared_world
    world.fill(user, messages=30, folders=2, total=60_000)
    world.imap(user).logout()
    world.wait_account(user, copy="delta", clean=True)
    before = world.snapshot(user, "legacy")
    damage(maildir_of(world, user))
    world.mailhaul("cutover", world.address(user))
    world.wait_account(user, route="local", provisioned=True)
    found = [line for line in log_of(world).splitlines()
             if f"{world.address(user)} verified differences=" in line]
    assert "differences=0" not in found[0], found
    assert "differences=0" in found[-1], found
    assert differences(before, world.snapshot(user)) == []


def test_a_difference_that_stays_keeps_the_gate_shut_and_is_told(
        shared_world):
    world = shared_world
    world.imap("dave").logout()
    world.wait_account("dave", copy="delta", clean=True)
    surplus = maildir_of(world, "dave") / ".Surplus" / "cur"
    surplus.mkdir(parents=True)
    world.mailhaul("cutover", "dave@example.test")
    row = wait_until(lambda: stuck(world, "dave@example.test"), 30)
    assert ".Surplus: only local has this folder" in row["last_error"]
    assert "in a row" in row["last_error"]
    row = world.account("dave")
    assert (row["route"], row["clean"]) == ("legacy", False)
    surplus.rmdir()
    surplus.parent.rmdir()
    row = world.wait_account("dave", route="local", provisioned=True)
    assert row["last_error"] is None


def test_a_difference_in_the_last_delta_gives_the_hold_back(shared_world):
    world = shared_world
    with SickImap() as legacy:
        user = sick(world, "wrong.test", legacy)
        world.wait_account(user, copy="delta", clean=True)
        surplus = maildir_of(world, user) / ".Surplus" / "cur"
        legacy.waits = {"LIST": AtLast(
            world, user, lambda: surplus.mkdir(parents=True))}
        world.mailhaul("cutover", user)
        wait_until(lambda: legacy.waits["LIST"].is_done, 30)
        row = world.wait_account(user, route="legacy", copy="delta")
        assert row["hold_failures"] == 1
        text = log_of(world)
        assert f"account {user} hold-failed" in text
        surplus.rmdir()
        surplus.parent.rmdir()
        world.mailhaul("cutover", user)
        world.wait_account(user, route="local", provisioned=True)


# ---- room for live mail

def test_copying_leaves_the_reserve_to_live_mail(make_world):
    world = make_world(run=False, cutover="auto", delta_seconds=1,
                       reserve="{bytes: 12M, inodes: 100}")
    disk = SmallDisk(world.settings.store, 18)
    try:
        world._make_owned()
        world.node.cli("init")
        world.add_domain()
        world.run_node()
        copying_leaves_the_reserve(world, disk)
    finally:
        disk.close()


def free_mb(world):
    now = os.statvfs(world.settings.store)
    return now.f_bavail * now.f_frsize >> 20


def copying_leaves_the_reserve(world, disk):
    world.fill("alice", messages=10, folders=1, total=20_000)
    world.fill("bob", messages=60, folders=2, total=9_000_000)
    world.imap("alice").logout()
    world.wait_account("alice", route="local", provisioned=True)
    before = world.snapshot("bob", "legacy")
    world.imap("bob").logout()
    row = wait_until(lambda: stuck(world, "bob@example.test"), 60)
    assert "store.reserve keeps 12 MB" in row["last_error"], row
    assert str(world.settings.store) in row["last_error"], row
    assert row["last_error_kind"] == "retry"
    assert (row["route"], row["copy"]) == ("legacy", "initial")
    assert free_mb(world) >= 8
    # live mail, and what the trail brings, is not stopped by it
    serial = world.send("alice")
    with world.imap("alice", "legacy") as imap:
        append(imap, "INBOX", "late\r\nX-Serial: late")
    assert free_mb(world) <= 12
    wait_until(lambda: {serial, "late"} <= serials(world, "alice"), 30, 0.3)
    disk.resize(64)
    world.wait_account("bob", 90, route="local", provisioned=True)
    assert differences(before, world.snapshot("bob")) == []
    # inodes alike
    now = os.statvfs(world.settings.store)
    disk.resize_inodes(now.f_files - now.f_ffree + 90)
    with world.imap("carol", "legacy") as imap:
        append(imap, "INBOX", "one")
    world.imap("carol").logout()
    row = wait_until(lambda: stuck(world, "carol@example.test"), 60)
    assert "inodes" in row["last_error"], row
    disk.resize_inodes(9000)
    world.wait_account("carol", route="local", provisioned=True)


def serials(world, user):
    imap = world.imap(user, "local")
    imap.select("INBOX", readonly=True)
    text = b"".join(part[1] for part in imap.uid(
        "FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (X-Serial)])")[1]
        if isinstance(part, tuple)).decode()
    imap.logout()
    return set(text.replace("X-Serial:", "").split())


# ---- local is asked

FAKE = """\
#!/bin/sh
for address; do :; done
[ -e {folder}/mended ] && exec doveadm -c {conf} "$@"
case "$address" in
alice@*) exec doveadm -c {conf} "$@" ;;
bob@*) echo "userdb lookup: user $address doesn't exist" >&2; exit 67 ;;
carol@*) echo maildir:/srv/elsewhere ;;
dave@*) exec sleep 60 ;;
*) echo "no such socket" >&2; exit 75 ;;
esac
"""
SAYS = {
    "bob": ("does not read auth.db", "knows no bob@example.test"),
    "carol": ("reads mail at maildir:/srv/elsewhere", "copying fills"),
    "dave": ("cannot be asked", "no answer within"),
    "erin": ("cannot be asked", "75: no such socket"),
}


def test_nobody_flips_to_a_local_server_that_does_not_serve_him(make_world):
    with tempfile.TemporaryDirectory(prefix="gate-", dir="/tmp") as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        fake = folder / "doveadm"
        world = make_world(run=False, cutover="auto", delta_seconds=1,
                           doveadm=f"[{fake}]")
        fake.write_text(FAKE.format(
            folder=folder, conf=world.folder / "local" / "dovecot.conf"))
        fake.chmod(0o755)
        world.node.cli("init")
        world.add_domain()
        world.run_node()
        for user in ("alice", *SAYS):
            world.imap(user).logout()
        world.wait_account("alice", route="local", provisioned=True)
        for user, words in SAYS.items():
            row = wait_until(lambda: stuck(world, f"{user}@example.test"), 60)
            assert all(word in row["last_error"] for word in words), row
            row = world.account(user)
            assert (row["route"], row["local_ready_at"]) == ("legacy", None)
            world.imap(user).logout()  # who goes on being served
        (folder / "mended").touch()
        for user in SAYS:
            row = world.wait_account(user, 60, route="local",
                                     provisioned=True)
            assert row["local_ready_at"] and row["last_error"] is None
        # asking leaves nothing in a mailbox that nobody has opened
        assert "opened-before-flip" not in log_of(world)


@pytest.mark.parametrize("doveadm", ["[]", "[/nowhere/doveadm]"])
def test_without_doveadm_the_gate_is_open_and_the_log_says_so(make_world,
                                                              doveadm):
    world = make_world(cutover="auto", delta_seconds=1, doveadm=doveadm)
    world.imap("alice").logout()
    world.wait_account("alice", route="local", provisioned=True)
    assert log_of(world).count("local-not-asked") == 1
