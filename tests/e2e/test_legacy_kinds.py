"""Legacy servers that know less, and what every one of them keeps."""

import poplib

import pytest

from lib.legacy_disk import legacy_on_disk, recent
from lib.mailbox import append, expunge, store, uids_of
from lib.pop3_reader import Pop3Reader
from lib.snapshot import differences, find_serials
from lib.waiting import wait_until

WORDS = ("IMAP4rev1 SASL-IR LOGIN-REFERRALS ID LITERAL+ IDLE NAMESPACE "
         "UNSELECT CHILDREN")
KINDS = {
    "CONDSTORE only": f"{WORDS} UIDPLUS LIST-EXTENDED CONDSTORE ENABLE",
    "UIDPLUS": f"{WORDS} UIDPLUS LIST-EXTENDED",
    "bare": "IMAP4rev1",
}
WORLD = {"cutover": "manual", "delta_seconds": 2}


def change(world, user):
    """The little that all folders see between copy and flip."""
    imap = world.imap(user, "legacy")
    uids = uids_of(imap, "INBOX")
    store(imap, "INBOX", uids[:3], "+FLAGS", "(\\Flagged $label1)")
    store(imap, "INBOX", uids[3:6], "FLAGS", "()")
    expunge(imap, "INBOX", uids[6:9])
    expunge(imap, "Sent", uids_of(imap, "Sent")[:2])
    append(imap, "Sent", "written", "(\\Seen)")
    append(imap, "INBOX", "came")
    imap.logout()


@pytest.mark.parametrize("kind", KINDS)
def test_any_imap_server_is_copied_with_its_later_changes(make_world, kind):
    world = make_world(legacy_conf=f"imap_capability = {KINDS[kind]}\n",
                       **WORLD)
    world.fill("alice", messages=200, folders=12, total=1_000_000)
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    change(world, "alice")
    total = sum(len(f.messages) for f in
                world.snapshot("alice", "legacy", bodies=False).values())
    wait_until(lambda: world.account("alice")["messages"] == total)
    change(world, "alice")
    before = world.snapshot("alice", "legacy")
    world.mailhaul("cutover", "alice@example.test")
    world.wait_account("alice", route="local")
    after = world.snapshot("alice")
    for folder in before.values():  # local has numbers where legacy has none
        folder.highest_modseq = 0
    assert differences(before, after) == []
    assert world.mailhaul("verify", "--full", "alice@example.test")


@pytest.mark.parametrize("prefix", [False, True], ids=["plain", "INBOX."])
def test_the_legacy_mailbox_is_not_changed_by_a_migration(make_world, prefix):
    # without POP3: its sessions alone take \\Recent away on Dovecot
    world = make_world(pop3=False, legacy_prefix=prefix, **WORLD)
    world.fill("alice", messages=200, folders=20, total=2_000_000)
    for n in range(5):
        world.send("alice", "legacy", serial=f"recent-{n}")
    wait_until(lambda: b"RECENT 5" in b"".join(recent(world, "alice")))
    disk, rows = legacy_on_disk(world, "alice"), recent(world, "alice")
    assert any("/new/" in name for name in disk)
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    before = world.snapshot("alice", "legacy")
    world.mailhaul("cutover", "alice@example.test")
    world.wait_account("alice", route="local")
    assert differences(before, world.snapshot("alice")) == []
    assert world.mailhaul("verify", "--full", "alice@example.test")
    # passes of the trail look at legacy too, and find something
    world.send("alice", "legacy", serial="late")
    wait_until(lambda: "late" in serials_on(world, "local"))
    now = {name: value for name, value in
           legacy_on_disk(world, "alice").items() if name in disk}
    assert now == disk
    late = b"".join(recent(world, "alice"))
    assert b"RECENT 6" in late and len(late) == len(b"".join(rows))


def test_recent_is_left_alone_until_the_last_delta_lists_the_uidls(make_world):
    world = make_world(**WORLD)
    world.fill("alice", messages=100, folders=4, total=300_000)
    serials = [world.send("alice", "legacy") for _ in range(5)]
    wait_until(lambda: b"RECENT 5" in b"".join(recent(world, "alice")))
    disk = legacy_on_disk(world, "alice")
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    wait_until(lambda: world.account("alice")["clean"])
    assert world.mailhaul("verify", "alice@example.test")
    assert legacy_on_disk(world, "alice") == disk
    world.mailhaul("cutover", "alice@example.test")
    world.wait_account("alice", route="local")
    assert set(serials) <= set(serials_on(world, "local"))
    uidls = {}
    for side in ("legacy", "local"):
        pop = world.pop3("alice", side)
        uidls[side] = [row.split()[1] for row in pop.uidl()[1]]
        pop.quit()
    assert uidls["legacy"] == uidls["local"]


def serials_on(world, side):
    imap = world.imap("alice", side)
    try:
        return find_serials(imap)
    finally:
        imap.logout()


def test_a_first_login_over_pop3_leaves_flags_and_files(make_world):
    world = make_world(**WORLD)
    world.fill("alice", messages=60, folders=3, total=100_000)
    disk = legacy_on_disk(world, "alice")
    wait_until(lambda: may_collect(world))
    assert legacy_on_disk(world, "alice") == disk
    world.wait_account("alice", copy="delta")
    world.mailhaul("cutover", "alice@example.test")
    world.wait_account("alice", route="local")
    assert legacy_on_disk(world, "alice") == disk


def may_collect(world):
    """UIDL and QUIT, no RETR; False while legacy is asked or in use."""
    try:
        pop = world.pop3("alice")
        pop.uidl()
        pop.quit()
        return True
    except poplib.error_proto:
        return False


@pytest.mark.parametrize("prefix", [False, True], ids=["plain", "INBOX."])
def test_without_legacy_pop3_there_are_no_uidls_to_keep(make_world, prefix):
    world = make_world(pop3=False, legacy_prefix=prefix, **WORLD)
    world.fill("alice", messages=50, folders=2, total=100_000)
    before = world.snapshot("alice", "legacy")
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    world.mailhaul("cutover", "alice@example.test")
    world.wait_account("alice", route="local")
    reader = Pop3Reader()
    fresh = reader.collect(world.pop3("alice"))
    assert len(fresh) == len(before["INBOX"].messages)
    world.imap("alice").logout()
    assert reader.collect(world.pop3("alice")) == []


@pytest.mark.parametrize("prefix", [False, True], ids=["plain", "INBOX."])
def test_folders_that_a_domain_leaves_out_stay_on_legacy(make_world, prefix):
    world = make_world(legacy_prefix=prefix, **WORLD)
    begin, level = ("INBOX.", ".") if prefix else ("", "/")
    kept, left = f"{begin}Virtually", [
        f"{begin}Virtual", f"{begin}Virtual{level}All",
        f"{begin}Lists{level}Entw&APw-rfe"]
    imap = world.imap("alice", "legacy")
    for folder in [kept, f"{begin}Lists", *left]:
        imap.create(folder)
        imap.subscribe(folder)
        append(imap, folder, f"in {folder}")
    append(imap, "INBOX", "in INBOX")
    imap.logout()
    domain = world.settings.domain
    wrong = world.mailhaul("domain", "set", domain, "--exclude", "*",
                           check=False)
    assert wrong.returncode == 2 and "INBOX" in wrong.stderr
    shown = world.mailhaul("domain", "set", domain, "--exclude",
                           "Virtual, Lists/Entwürfe")
    assert shown["exclude"] == "Virtual, Lists/Entwürfe"
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    before = world.snapshot("alice", "legacy")
    world.mailhaul("cutover", world.address("alice"))
    world.wait_account("alice", route="local")
    after = world.snapshot("alice")
    assert kept in after and not set(left) & set(after)
    for folder in left:
        del before[folder]
    assert differences(before, after) == []
    assert world.mailhaul("verify", world.address("alice"))
    # nor does the trail bring what comes there later
    imap = world.imap("alice", "legacy")
    append(imap, left[0], "late, left out")
    append(imap, kept, "late, kept")
    imap.logout()
    wait_until(lambda: "late, kept" in subjects_of(world, kept), 60)
    assert not set(left) & set(world.snapshot("alice"))


def subjects_of(world, folder):
    imap = world.imap("alice")
    imap.select(folder, readonly=True)
    found = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    imap.logout()
    return " ".join(part[1].decode() for part in found
                    if isinstance(part, tuple))
