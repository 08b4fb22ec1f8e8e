"""Clients that know the mailbox from legacy download nothing again when it
has moved, and miss nothing (promise 1)."""

import pytest

from lib.pop3_reader import Pop3Reader
from lib.qresync import QresyncClient
from lib.snapshot import differences, find_serials, subscriptions
from lib.waiting import wait_until

VARIANTS = pytest.mark.parametrize("variant", [
    pytest.param("slash", marks=pytest.mark.world()),
    pytest.param("prefix", marks=pytest.mark.world(legacy_prefix=True))])


def inbox_has(world, serial, side="legacy", user="alice"):
    imap = world.imap(user, side)
    try:
        return serial in find_serials(imap)
    finally:
        imap.logout()


@VARIANTS
def test_all_a_client_sees_is_the_same(world, variant):
    world.fill("alice", messages=600, folders=26, total=5_000_000)
    imap = world.imap("alice", "legacy")
    before, subscribed = world.snapshot("alice", "legacy"), subscriptions(imap)
    imap.logout()
    world.move("alice")
    assert differences(before, world.snapshot("alice")) == []
    imap = world.imap("alice")
    assert subscriptions(imap) == subscribed
    imap.logout()
    assert differences(before, world.snapshot("alice", "legacy")) == []
    world.mailhaul("verify", "alice@example.test")


@pytest.mark.parametrize("prefix", [False, True])
def test_mbsync_downloads_nothing_again(make_world, prefix):
    world = make_world(cutover="manual", legacy_prefix=prefix)
    world.fill("alice", messages=300, folders=12, total=2_000_000)
    client = world.mbsync("alice", "legacy", patterns="* !*/* !a.b*")
    first = client.sync()
    assert first["code"] == 0 and first["new"] > 100, first
    client.relay.target = world.own["imap"]
    idle = client.sync()
    assert (idle["code"], idle["new"], idle["gone"]) == (0, 0, 0), idle
    world.wait_account("alice", copy="delta")
    world.mailhaul("cutover", "alice@example.test")
    world.wait_account("alice", route="local")
    idle = client.sync()
    assert (idle["code"], idle["new"], idle["gone"]) == (0, 0, 0), idle
    serial = world.send("alice")
    wait_until(lambda: inbox_has(world, serial, "local"))
    again = client.sync()
    assert (again["code"], again["new"], again["gone"]) == (0, 1, 0), again
    client.close()


@pytest.mark.parametrize("variant", [
    pytest.param("pop3", marks=pytest.mark.world()),
    pytest.param("no legacy pop3", marks=pytest.mark.world(pop3=False))])
def test_a_pop3_client_that_keeps_mail_downloads_nothing_again(world, variant):
    """Without legacy's POP3 there are no UIDLs to carry over, unless the
    servers make the same ones: not so here."""
    world.fill("alice", messages=150, folders=2, total=400_000)
    reader = Pop3Reader()
    assert reader.collect(world.pop3("alice", "legacy"))
    order = reader.uidls
    world.move("alice")
    fresh = reader.collect(world.pop3("alice"))
    if variant != "pop3":
        assert len(fresh) == len(order)
        return
    assert fresh == []
    assert reader.uidls == order
    serial = world.send("alice")
    wait_until(lambda: inbox_has(world, serial, "local"))
    assert len(reader.collect(world.pop3("alice"))) == 1
    assert reader.uidls[:-1] == order


@VARIANTS
def test_a_qresync_client_that_was_away_keeps_no_ghosts(world, variant):
    world.fill("alice", messages=200, folders=2, total=400_000)
    client = QresyncClient("INBOX")
    with world.imap_wire("alice", "legacy") as wire:
        client.sync(wire)
    uids = sorted(client.flags)
    imap = world.imap("alice", "legacy")
    imap.select("INBOX")
    gone = [str(u) for u in uids[3:40:3] + uids[-2:]]
    imap.uid("STORE", ",".join(gone), "+FLAGS", "(\\Deleted)")
    imap.uid("EXPUNGE", ",".join(gone))
    changed = [str(u) for u in uids[1:40:3]]
    imap.uid("STORE", ",".join(changed), "+FLAGS", "(\\Flagged Seen-it)")
    imap.logout()
    world.move("alice")
    with world.imap_wire("alice") as wire:
        done = client.sync(wire)
        assert client.lost_cache == 0
        assert client.truth(wire) == client.flags
        assert done["new"] == set()
        assert done["vanished"] == {int(u) for u in gone}


def test_a_client_that_saw_a_change_between_copy_and_flip_keeps_no_ghosts(
        make_world):
    world = make_world(cutover="manual", delta_seconds=1)
    world.fill("alice", messages=100, folders=2, total=200_000)
    client = QresyncClient("INBOX")
    with world.imap_wire("alice") as wire:
        client.sync(wire)
    world.wait_account("alice", copy="delta")
    uids = sorted(client.flags)
    imap = world.imap("alice")
    imap.select("INBOX")
    imap.uid("STORE", f"{uids[0]},{uids[5]}", "+FLAGS", "(\\Deleted)")
    imap.uid("EXPUNGE", f"{uids[0]},{uids[5]}")
    imap.logout()
    serial = world.send("alice")
    wait_until(lambda: inbox_has(world, serial))
    world.mailhaul("cutover", "alice@example.test")
    world.wait_account("alice", route="local")
    with world.imap_wire("alice") as wire:
        done = client.sync(wire)
        assert done["vanished"] == {uids[0], uids[5]}
        assert len(done["new"]) == 1
        assert client.truth(wire) == client.flags
