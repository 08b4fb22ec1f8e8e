"""Clients with a cache do not notice the flip, whatever legacy looks like."""

import re

import pytest

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


def append(imap, folder, text, flags="", date=None):
    raw = f"Subject: {text}\r\n\r\n{text}\r\n".encode()
    status, said = imap.append(quote(folder), flags, date, raw)
    assert status == "OK", said
    return int(re.search(rb"APPENDUID \d+ (\d+)", said[0])[1])


def uids_of(imap, folder):
    imap.select(quote(folder), readonly=True)
    return [int(u) for u in imap.uid("SEARCH", "ALL")[1][0].split()]


def expunge(imap, folder, uids):
    imap.select(quote(folder))
    numbers = ",".join(map(str, uids))
    imap.uid("STORE", numbers, "+FLAGS.SILENT", "(\\Deleted)")
    imap.uid("EXPUNGE", numbers)


def store(imap, folder, uids, what, flags):
    imap.select(quote(folder))
    status, said = imap.uid("STORE", ",".join(map(str, uids)), what, flags)
    assert status == "OK", said


def count(boxes):
    return sum(len(folder.messages) for folder in boxes.values())


def change_legacy(world, user):
    """What happens to her mailbox while no client of hers looks: mail comes,
    another client deletes, flags and files. -> counts {"new", "gone"}."""
    imap = world.imap(user, "legacy")
    work, umlauts = path(world, "work"), path(world, UMLAUTS)
    for n in range(3):
        world.send(user, serial=f"{user}-{n}")
    wait_until(lambda: len(imap.uid("SEARCH", "HEADER", "X-Serial", user)
                           [1][0].split()) == 3
               if imap.select("INBOX", readonly=True)[0] == "OK" else False)
    append(imap, umlauts, "written", "(\\Seen $label1)")
    append(imap, work, "filed", "(\\Flagged)")
    gone = 0
    for folder in ("INBOX", umlauts, work):
        uids = uids_of(imap, folder)
        lost = uids[1:8:3]
        expunge(imap, folder, lost)
        gone += len(lost)
        store(imap, folder, [u for u in uids if u not in lost][:4], "+FLAGS",
              "(\\Answered $Forwarded)")
    imap.logout()
    return {"new": 5, "gone": gone}


def test_mbsync_downloads_only_what_is_new(shared_world):
    world, user = shared_world, "user001"
    world.fill(user, messages=300, folders=25, total=4_000_000)
    patterns = "* INBOX*" if world.settings.legacy_prefix else "*"
    client = world.mbsync(user, name="mbsync-" + user, patterns=patterns)
    first = client.sync()
    assert first["code"] == 0, first["output"]
    before = world.snapshot(user, "legacy")
    assert first["new"] == len(client.messages()) == count(before)
    world.wait_account(user, copy="delta")
    changed = change_legacy(world, user)
    before = world.snapshot(user, "legacy")
    move(world, user)
    again = client.sync()
    assert again["code"] == 0, again["output"]
    assert {k: again[k] for k in changed} == changed, again["output"]
    assert again["bytes"] < 120_000, "lists and five messages"
    assert len(client.messages()) == count(before)
    assert differences(before, world.snapshot(user)) == []
    # it changes, and sees changes, as before
    imap = world.imap(user)
    expunge(imap, "INBOX", uids_of(imap, "INBOX")[:2])
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
    return sorted(rows)


def namespaces(world, user, side):
    with world.imap_wire(user, side) as wire:
        return wire.ok("NAMESPACE")


def test_everything_a_client_sees_is_as_it_was(shared_world):
    world, user = shared_world, "user006"
    world.fill(user, messages=300, folders=30, total=12_000_000)
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


def legacy_on_disk(world, user):
    """Every message's path below the Maildir (so place and flags), time and
    bytes; folders; the lists that a client can change."""
    home = world.legacy_dovecot.folder / "mail" / world.address(user)
    found = {}
    for p in sorted(home.rglob("*")):
        name = str(p.relative_to(home))
        if p.is_dir():
            found[name] = "folder"
        elif p.parent.name in ("cur", "new", "tmp"):
            found[name] = (p.stat().st_mtime_ns, p.read_bytes())
        elif p.name in ("subscriptions", "dovecot-keywords"):
            found[name] = p.read_bytes()
    return found


def recent(world, user):
    imap = world.imap(user, "legacy")
    rows = [imap.status(quote(name), "(RECENT UNSEEN MESSAGES)")[1][0]
            for name in sorted(folder_names(imap))]
    imap.logout()
    return rows


def test_the_legacy_mailbox_is_not_changed_by_a_migration(shared_world):
    world, user = shared_world, "user007"
    world.fill(user, messages=200, folders=20, total=2_000_000)
    for n in range(5):
        world.send(user, serial=f"recent-{n}")
    wait_until(lambda: b"RECENT 5" in recent(world, user)[0] or any(
        b"RECENT 5" in row for row in recent(world, user)))
    disk, rows = legacy_on_disk(world, user), recent(world, user)
    assert any("/new/" in name for name in disk)
    world.imap(user).logout()
    move(world, user)
    flipped = world.account(user)
    assert flipped["messages"] == sum(
        1 for value in disk.values() if isinstance(value, tuple))
    assert world.mailhaul("verify", "--full", world.address(user))
    # passes of the trail look at legacy too
    serial = world.send("user008")
    wait_until(lambda: b"1" in recent(world, "user008")[0])
    assert serial and legacy_on_disk(world, user) == disk
    assert recent(world, user) == rows


def test_a_first_login_over_pop3_changes_nothing_on_legacy(shared_world):
    world, user = shared_world, "user009"
    world.fill(user, messages=60, folders=3, total=100_000)
    world.send(user)
    wait_until(lambda: any(b"RECENT 1" in row for row in recent(world, user)))
    disk = legacy_on_disk(world, user)
    pop = world.pop3(user)
    pop.quit()
    # a POP3 session of legacy takes \Recent: that was the client, not we
    rows = recent(world, user)
    kept = {n: v for n, v in disk.items() if "/new/" not in n}
    move(world, user)
    now = legacy_on_disk(world, user)
    assert {n: v for n, v in now.items() if n in kept} == kept
    assert recent(world, user) == rows


