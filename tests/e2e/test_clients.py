"""Clients with a cache do not notice the flip, whatever legacy looks like."""

import re

import pytest

from lib.mailbox import append, expunge, store, uids_of
from lib.pop3_reader import Pop3Reader
from lib.qresync import QresyncClient
from lib.snapshot import (differences, folder_names, highest_modseq, quote,
                          snapshot, subscriptions)
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "delta_seconds": 2, "more_users": 12}
pytestmark = pytest.mark.parametrize(
    "shared_world", [{}, {"legacy_prefix": True}], indirect=True,
    scope="module", ids=["plain", "INBOX."])
UMLAUTS = "Entw&APw-rfe"  # in modified UTF-7
TAME = 'SUBJECT "tame"'  # what plant() puts between the odd messages


def path(world, *parts):
    """A folder's name as legacy's clients know it."""
    if world.settings.legacy_prefix:
        return ".".join(("INBOX",) + parts)
    return "/".join(parts)


def move(world, user):
    """Flip an account that was logged in to before."""
    world.wait_account(user, copy="delta")
    world.mailhaul("cutover", world.address(user))
    return world.wait_account(user, route="local")


def pullable(world, user):
    boxes = world.snapshot(user, "legacy", bodies=False)
    # its Maildir has no folder "new", nor one with a "/" in its name
    return sum("\\Deleted" not in message.flags
               for name, folder in boxes.items() if name != path(world, "new")
               and not (world.settings.legacy_prefix and "/" in name)
               for message in folder.messages.values())


def changing_folders(world):
    return "INBOX", path(world, UMLAUTS), path(world, "work")


def plant(world, user):
    """Messages that any client takes, for change_legacy."""
    imap = world.imap(user, "legacy")
    for folder in changing_folders(world):
        for n in range(6):
            append(imap, folder, f"tame {n}", "(\\Seen)" if n % 2 else "")
    imap.logout()


def change_legacy(world, user):
    """What happens to her mailbox while no client of hers looks: mail comes,
    another client deletes, flags and files. -> counts {"new", "gone"}."""
    imap = world.imap(user, "legacy")
    _, umlauts, work = changing_folders(world)
    for n in range(3):
        world.send(user, serial=f"{user}-{n}")
    wait_until(lambda: len(imap.uid("SEARCH", "HEADER", "X-Serial", user)
                           [1][0].split()) == 3
               if imap.select("INBOX", readonly=True)[0] == "OK" else False)
    append(imap, umlauts, "written", "(\\Seen $label1)")
    append(imap, work, "filed", "(\\Flagged)")
    gone = 0
    for folder in changing_folders(world):
        uids = uids_of(imap, folder, TAME)
        lost = uids[:4:2]
        expunge(imap, folder, lost)
        gone += len(lost)
        store(imap, folder, uids[1:4:2], "+FLAGS",
              "(\\Answered $Forwarded)")
    imap.logout()
    return {"new": 5, "gone": gone}


def test_mbsync_downloads_only_what_is_new(shared_world):
    world, user = shared_world, "user001"
    world.fill(user, messages=300, folders=25, total=4_000_000)
    plant(world, user)
    client = world.mbsync(user, name="mbsync-" + user, patterns="* !new")
    first = client.sync()
    assert first["code"] == 0, first["output"]
    assert first["new"] == len(client.messages()) == pullable(world, user) - \
        first["output"].count("incomplete header")
    world.wait_account(user, copy="delta")
    changed = change_legacy(world, user)
    before = world.snapshot(user, "legacy")
    move(world, user)
    again = client.sync()
    assert again["code"] == 0, again["output"]
    assert {k: again[k] for k in changed} == changed, again["output"]
    assert again["bytes"] < 120_000, "lists and five messages"
    assert len(client.messages()) == \
        first["new"] + changed["new"] - changed["gone"]
    assert differences(before, world.snapshot(user)) == []
    # it changes, and sees changes, as before
    imap = world.imap(user)
    expunge(imap, "INBOX", uids_of(imap, "INBOX", TAME)[-2:])
    append(imap, path(world, UMLAUTS), "later")
    imap.logout()
    later = client.sync()
    assert (later["code"], later["new"], later["gone"]) == (0, 1, 2), later
    idle = client.sync()
    assert (idle["code"], idle["new"], idle["gone"]) == (0, 0, 0), idle
    client.close()


def pop3_listing(pop):
    """UIDLs and sizes in the server's order; ends the session."""
    uidls = [row.decode().split(" ", 1)[1] for row in pop.uidl()[1]]
    sizes = [int(row.split()[1]) for row in pop.list()[1]]
    pop.quit()
    return list(zip(uidls, sizes))


def test_a_pop3_client_that_keeps_mail_fetches_only_what_is_new(shared_world):
    world, user = shared_world, "user002"
    world.fill(user, messages=250, folders=3, total=2_000_000)
    client = Pop3Reader()
    assert len(client.collect(world.pop3(user))) > 50
    world.wait_account(user, copy="delta")
    changed = change_legacy_inbox(world, user)
    before = pop3_listing(world.pop3(user, "legacy"))
    move(world, user)
    after = pop3_listing(world.pop3(user))
    assert [uidl for uidl, _ in after] == [uidl for uidl, _ in before]
    assert after == before
    old = set(client.bodies)
    fresh = client.collect(world.pop3(user))
    assert len(fresh) == changed["new"]
    assert client.uidls == [uidl for uidl, _ in before]
    assert len(old - set(client.uidls)) == changed["gone"]
    # what it kept is what the server would give it under the same name
    again = Pop3Reader()
    again.collect(world.pop3(user))
    assert again.bodies == {u: client.bodies[u] for u in client.uidls}
    # mail of the new server comes behind, and once
    world.send(user)
    assert wait_until(lambda: client.collect(world.pop3(user)))
    assert client.uidls[:-1] == [uidl for uidl, _ in before]
    assert len(set(client.uidls)) == len(client.uidls)


def change_legacy_inbox(world, user):
    imap = world.imap(user, "legacy")
    expunge(imap, "INBOX", uids_of(imap, "INBOX")[2:30:9])
    for n in range(4):
        append(imap, "INBOX", f"letter {n}", "", '"01-Feb-2003 04:05:06 +0100"')
    imap.logout()
    return {"new": 4, "gone": 4}


def away(world, user, folders, work):
    """Clients of those folders go away, work(imap on legacy) happens, the user
    is flipped: [(client, legacy's modseq and truth before the flip)]."""
    clients = [QresyncClient(folder) for folder in folders]
    for client in clients:
        with world.imap_wire(user) as wire:
            client.sync(wire)
    world.wait_account(user, copy="delta")
    imap = world.imap(user, "legacy")
    work(imap)
    modseqs = [highest_modseq(imap, folder) for folder in folders]
    truths = []
    for client in clients:
        with world.imap_wire(user, "legacy") as wire:
            truths.append(client.truth(wire))
    imap.logout()
    move(world, user)
    return list(zip(clients, modseqs, truths))


def check_return(world, user, client, modseq, truth):
    """It comes back to the new server: what it hears, and what it has then."""
    expected = {
        "vanished": client.flags.keys() - truth.keys(),
        "changed": {u for u in client.flags.keys() & truth.keys()
                    if client.flags[u] != truth[u]},
        "new": truth.keys() - client.flags.keys()}
    with world.imap_wire(user) as wire:
        done = client.sync(wire)
    assert client.lost_cache == 0
    assert done == expected, client.folder
    assert client.flags == truth, client.folder
    assert client.modseq >= modseq
    return done


def test_a_qresync_client_that_was_away_misses_nothing(shared_world):
    world, user = shared_world, "user003"
    world.fill(user, messages=300, folders=8, total=1_000_000)
    folders = ["INBOX", path(world, UMLAUTS), path(world, "Sent"),
               path(world, "Trash")]

    def work(imap):
        # some of it is copied by a delta before the flip, some by the last
        for part in range(2):
            for folder in folders[:3]:
                uids = uids_of(imap, folder)
                expunge(imap, folder, uids[part:9:4])
                left = uids_of(imap, folder)
                store(imap, folder, left[part:5:2], "+FLAGS",
                      "(\\Flagged Wichtig)")
                store(imap, folder, left[5:7], "-FLAGS", "(\\Seen)")
                append(imap, folder, f"new {part}", "(\\Draft)")
            if part == 0:
                seen = world.account(user)["messages"]
                wait_until(lambda: world.account(user)["messages"] != seen
                           or copied(world, user, imap), 30, 0.2)
        expunge(imap, folders[1], uids_of(imap, folders[1])[-1:])
    for client, modseq, truth in away(world, user, folders, work):
        done = check_return(world, user, client, modseq, truth)
        assert bool(done["vanished"]) == (client.folder != folders[3])
        # and goes away once more
        with world.imap_wire(user) as wire:
            wire.ok(f"SELECT {quote(client.folder)}")
            uids = sorted(truth)
            wire.ok(f"UID STORE {uids[0]} +FLAGS (\\Deleted)")
            wire.ok(f"UID EXPUNGE {uids[0]}")
            wire.ok(f"UID STORE {uids[1]} FLAGS (\\Draft)")
        with world.imap_wire(user) as wire:
            done = client.sync(wire)
            truth = client.truth(wire)
        assert done["vanished"] == {uids[0]} and done["new"] == set()
        assert client.flags == truth


def copied(world, user, imap):
    """A delta has seen what legacy has now."""
    total = sum(len(uids_of(imap, name)) for name in folder_names(imap))
    return world.account(user)["messages"] == total


def test_a_modseq_that_jumps_before_the_flip_is_not_undercut(shared_world):
    world, user = shared_world, "user004"
    world.fill(user, messages=40, folders=3, total=100_000)

    def work(imap):
        expunge(imap, "INBOX", uids_of(imap, "INBOX")[:3])
        world.legacy_dovecot.doveadm(
            "mailbox", "update", "-u", world.address(user),
            "--min-highest-modseq", "7000000", "INBOX")
        store(imap, "INBOX", uids_of(imap, "INBOX")[:2], "+FLAGS", "($label1)")
    for client, modseq, truth in away(world, user, ["INBOX"], work):
        assert modseq > 7_000_000
        # it was there at the end, and has that number
        with world.imap_wire(user, "legacy") as wire:
            client.sync(wire)
        check_return(world, user, client, modseq, truth)


def test_a_condstore_client_hears_of_every_change(shared_world):
    world, user = shared_world, "user005"
    world.fill(user, messages=60, folders=3, total=100_000)
    with world.imap_wire(user) as wire:
        said = b"\n".join(wire.ok("SELECT INBOX (CONDSTORE)"))
        modseq = int(re.search(rb"HIGHESTMODSEQ (\d+)", said)[1])
        flags = fetch_flags(wire, "UID FETCH 1:* (FLAGS)")
    world.wait_account(user, copy="delta")
    imap = world.imap(user, "legacy")
    uids = uids_of(imap, "INBOX")
    store(imap, "INBOX", uids[:2], "FLAGS", "(\\Flagged $MDNSent)")
    store(imap, "INBOX", uids[3:5], "FLAGS", "()")
    expunge(imap, "INBOX", uids[5:7])
    imap.logout()
    truth = world.snapshot(user, "legacy")["INBOX"]
    move(world, user)
    with world.imap_wire(user) as wire:
        said = b"\n".join(wire.ok("SELECT INBOX (CONDSTORE)"))
        assert int(re.search(rb"HIGHESTMODSEQ (\d+)", said)[1]) >= modseq
        flags.update(fetch_flags(
            wire, f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})"))
        there = wire.ok("UID SEARCH ALL")[0].split()[2:]
        answer = wire.ok(f"UID STORE {uids[0]} (UNCHANGEDSINCE {modseq}) "
                         "+FLAGS (\\Deleted)")
        assert not any(b"\\Deleted" in line for line in answer)
    assert {int(u) for u in there} == set(truth.messages)
    assert {u: f for u, f in flags.items() if u in truth.messages} == {
        u: m.flags for u, m in truth.messages.items()}


def fetch_flags(wire, command):
    return {int(re.search(rb"UID (\d+)", line)[1]): frozenset(
        re.search(rb"FLAGS \(([^)]*)\)", line)[1].decode().split())
        - {"\\Recent"} for line in wire.ok(command) if b"FETCH" in line}


def special_folders(world, user, side):
    with world.imap_wire(user, side) as wire:
        rows = wire.ok('LIST (SPECIAL-USE) "" "*"')
    # \Marked and \UnMarked say whether something came since the last look
    return sorted(re.sub(rb"\\(Un)?Marked ?", b"", row) for row in rows)


def namespaces(world, user, side):
    with world.imap_wire(user, side) as wire:
        return wire.ok("NAMESPACE")


def test_everything_a_client_sees_is_as_it_was(shared_world):
    world, user = shared_world, "user006"
    world.fill(user, messages=300, folders=30, total=12_000_000)
    plant(world, user)
    world.imap(user).logout()
    world.wait_account(user, copy="delta")
    change_legacy(world, user)
    imap = world.imap(user, "legacy")
    # folders change too while they are copied
    imap.rename(quote(path(world, "Drafts")), quote(path(world, "Old drafts")))
    imap.delete(quote(path(world, "new")))
    imap.create(quote(path(world, "Fresh", "one")))
    imap.subscribe(quote(path(world, "Fresh", "one")))
    imap.unsubscribe(quote(path(world, "Sent")))
    append(imap, path(world, "Fresh", "one"), "first", "(\\Seen Eigen)")
    before, wanted = snapshot(imap), subscriptions(imap)
    imap.logout()
    move(world, user)
    imap = world.imap(user)
    assert differences(before, snapshot(imap)) == []
    assert subscriptions(imap) == wanted
    now = snapshot(imap, bodies=False)
    assert {name: f.uid_next for name, f in now.items()} == {
        name: f.uid_next + 1000 for name, f in before.items()}
    imap.logout()
    for look in (special_folders, namespaces):
        assert look(world, user, "mailhaul") == look(world, user, "legacy")
    assert world.mailhaul("verify", "--full", world.address(user))
