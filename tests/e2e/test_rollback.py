"""The way back: what is new on local is on legacy afterwards, once."""

import pytest

from lib.mailbox import append, expunge, store, uids_of
from lib.snapshot import differences
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "delta_seconds": 2, "more_users": 12}


def flip(world, user):
    world.wait_account(user, copy="delta")
    world.mailhaul("cutover", world.address(user))
    return world.wait_account(user, route="local")


def settle(world, user, messages=60):
    """A user with mail who lives on local."""
    world.fill(user, messages=messages, folders=4, total=400_000)
    world.imap(user).logout()
    return flip(world, user)


def rollback(world, user, *options):
    done = world.mailhaul("rollback", world.address(user), "--wait", *options)
    [row] = done["accounts"]
    assert (row["rollback"], row["route"]) == ("done", "legacy"), row
    return row


def subjects(world, user, side, folder="INBOX"):
    """Subject -> (flags without \\Recent, internal date) of a folder."""
    imap = world.imap(user, side)
    assert imap.select(folder, readonly=True)[0] == "OK"
    found = {}
    for uid in imap.uid("SEARCH", "ALL")[1][0].split():
        reply = imap.uid("FETCH", uid, "(FLAGS INTERNALDATE "
                         "BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        head = reply[0][0].decode()
        flags = set(head.partition("FLAGS (")[2].partition(")")[0].split())
        date = head.partition('INTERNALDATE "')[2].partition('"')[0]
        name = reply[0][1].decode(errors="replace").strip()
        found.setdefault(name.partition(": ")[2], []).append(
            (frozenset(flags - {"\\Recent"}), date))
    imap.logout()
    return found


def test_new_mail_goes_back_once_with_flags_and_dates(shared_world):
    world, user = shared_world, "user001"
    settle(world, user)
    before = world.snapshot(user, "legacy")
    world.send(user, serial="back-1")
    imap = world.imap(user)
    wait_until(lambda: imap.select("INBOX")[0] == "OK" and
               imap.uid("SEARCH", "SUBJECT", "back-1")[1][0])
    append(imap, "Sent", "sent here", "(\\Seen $label1)",
           '"05-Feb-2004 06:07:08 +0900"')
    append(imap, "Drafts", "half written", "(\\Draft)")
    imap.create("new/here")
    imap.subscribe("new/here")
    append(imap, "new/here", "filed here", "(\\Flagged)")
    imap.logout()
    row = rollback(world, user)
    assert row["left_behind"] == [], row
    assert list(subjects(world, user, "legacy")["back-1"])
    sent = subjects(world, user, "legacy", "Sent")["sent here"]
    assert [f for f, _ in sent] == [{"\\Seen", "$label1"}]
    assert sent[0][1].endswith("2004 06:07:08 +0900") or \
        "2004" in sent[0][1], sent
    assert len(subjects(world, user, "legacy", "Drafts")["half written"]) == 1
    filed = subjects(world, user, "legacy", "new/here")["filed here"]
    assert [f for f, _ in filed] == [{"\\Flagged"}]
    after = world.snapshot(user, "legacy")
    for name, folder in before.items():
        for uid, message in folder.messages.items():
            assert after[name].messages[uid] == message


def verify(world, user):
    """Byte for byte, once the next delta has seen what came last."""
    last = []

    def same():
        last[:] = [world.mailhaul("verify", world.address(user), check=False)]
        return last[0].returncode == 0
    wait_until(same, 30, 0.5, lambda: last[0].stdout)


def forward(world, user):
    """Flip again after a way back; both sides are the same at that moment."""
    row = world.wait_account(user, copy="delta", clean=True)
    assert row["route"] == "legacy"
    verify(world, user)
    before = world.snapshot(user, "legacy")
    flip(world, user)
    verify(world, user)
    assert differences(before, world.snapshot(user)) == []
    return before


def count(world, user, side):
    boxes = world.snapshot(user, side, bodies=False)
    return {name: len(folder.messages) for name, folder in boxes.items()}


def test_forward_again_is_without_a_double(shared_world):
    world, user = shared_world, "user002"
    settle(world, user)
    for n in range(3):
        world.send(user, serial=f"local-{n}")
    world.send(user, side="legacy", serial="late-1")  # by the trail
    imap = world.imap(user)
    wait_until(lambda: imap.select("INBOX")[0] == "OK" and
               len(imap.uid("SEARCH", "SUBJECT", "local-")[1][0].split()) == 3
               and imap.uid("SEARCH", "SUBJECT", "late-1")[1][0])
    append(imap, "Sent", "sent here", "(\\Seen $label1)")
    imap.create("Moved")
    first, second = [u for u in uids_of(imap, "INBOX", "LARGER 100")
                     if u < 1000][:2]
    imap.uid("COPY", str(first), "Moved")
    imap.uid("MOVE", str(second), "Moved")
    imap.rename("Trash", "Bin")
    imap.logout()
    here = count(world, user, "local")
    rollback(world, user)
    there = count(world, user, "legacy")
    # what was renamed stays, what was moved is there twice: it only adds
    assert there["INBOX"] == here["INBOX"] + 1
    assert there["Moved"] == here["Moved"] == 2
    assert there["Trash"] == here["Bin"]
    assert "Bin" not in there
    world.send(user, side="legacy", serial="meanwhile")
    wait_until(lambda: "meanwhile" in subjects(world, user, "legacy"))
    before = forward(world, user)
    assert {n: len(f.messages) for n, f in before.items()} == \
        {**there, "INBOX": there["INBOX"] + 1}
    # and once more, with mail that comes all the while
    world.send(user, serial="second-1")
    wait_until(lambda: "second-1" in subjects(world, user, "local"))
    row = rollback(world, user)
    assert row["left_behind"] == []
    assert len(subjects(world, user, "legacy")["second-1"]) == 1
    again = forward(world, user)
    assert len(again["INBOX"].messages) == there["INBOX"] + 2


def test_clients_with_a_cache_download_only_what_is_new(shared_world):
    world, user = shared_world, "user003"
    settle(world, user)
    client = world.mbsync(user, name="mbsync-" + user, patterns="INBOX Sent")
    assert client.sync()["code"] == 0
    for n in range(3):
        world.send(user, serial=f"cached-{n}")
    wait_until(lambda: sum(name.startswith("cached-") for name in
                           subjects(world, user, "local")) == 3)
    on_local = client.sync()
    assert (on_local["code"], on_local["new"]) == (0, 3), on_local
    world.send(user, serial="cached-unseen")
    wait_until(lambda: "cached-unseen" in subjects(world, user, "local"))
    imap = world.imap(user)
    append(imap, "Sent", "sent here", "(\\Seen)")
    imap.logout()
    uidls = [line.split()[1] for line in world.pop3(user).uidl()[1]]
    old = set(client.messages())
    rollback(world, user)
    # legacy has them under its own UIDs, above all that local gave out
    back = client.sync()
    assert (back["code"], back["new"], back["gone"]) == (0, 5, 3), back
    assert len(old & set(client.messages())) == len(old) - 3
    assert sum(len(f.messages) for name, f in
               world.snapshot(user, "legacy", bodies=False).items()
               if name in ("INBOX", "Sent")) <= len(client.messages()) + \
        on_local["output"].count("incomplete header") + 20
    again = client.sync()
    assert (again["code"], again["new"], again["gone"]) == (0, 0, 0), again
    # what POP3 clients knew before the flip, they know again
    now = [line.split()[1] for line in world.pop3(user, "legacy").uidl()[1]]
    assert now[:len(uidls) - 4] == uidls[:len(uidls) - 4]
    forward(world, user)
    moved = client.sync()
    assert (moved["code"], moved["new"], moved["gone"]) == (0, 0, 0), moved
    client.close()


def test_changes_go_back_only_when_asked_for(shared_world):
    world = shared_world
    for user, with_changes in (("user004", False), ("user005", True)):
        settle(world, user)
        before = world.snapshot(user, "legacy", bodies=False)["INBOX"].messages
        imap = world.imap(user)
        some = [u for u in uids_of(imap, "INBOX", "UNFLAGGED UNDELETED")][:4]
        store(imap, "INBOX", some[:2], "+FLAGS", "(\\Flagged $later)")
        expunge(imap, "INBOX", some[2:4])
        imap.delete("Trash")
        append(imap, "INBOX", "fresh")
        imap.logout()
        row = rollback(world, user, *(["--changes"] if with_changes else []))
        after = world.snapshot(user, "legacy", bodies=False)["INBOX"].messages
        gone, flagged = set(some[2:4]), set(some[:2])
        assert len(after) == len(before) + 1 - (2 if with_changes else 0)
        for uid, message in before.items():
            if uid in gone:
                assert (uid in after) != with_changes
            elif uid in flagged and with_changes:
                assert {"\\Flagged", "$later"} <= set(after[uid].flags)
            else:
                assert after[uid] == message
        assert any("Trash: deleted or renamed" in line
                   for line in row["left_behind"]) == with_changes
        assert "Trash" in world.snapshot(user, "legacy", bodies=False)


def test_what_cannot_go_back_is_listed_and_stays(shared_world):
    world, user = shared_world, "user006"
    settle(world, user)
    imap = world.imap(user)
    empty = uids_of(imap, "INBOX", "SMALLER 1")
    assert empty, "legacy holds a message without a byte, and takes none"
    imap.create("Kept")
    imap.uid("COPY", str(empty[0]), "Kept")
    imap.logout()
    row = rollback(world, user)
    assert [line.partition(":")[0] for line in row["left_behind"]] == \
        ["Kept/uid 1"], row
    assert world.account(user)["left_behind"] == row["left_behind"]
    assert count(world, user, "legacy")["Kept"] == 0
    world.wait_account(user, copy="delta", clean=True)
    flip(world, user)
    assert count(world, user, "local")["Kept"] == 1


def test_refused_before_anything_begins(shared_world):
    world, user = shared_world, "user007"
    settle(world, user)
    address = world.address(user)
    world.mailhaul("domain", "set", "example.test", "--rollback-days", "0")
    done = world.mailhaul("rollback", address, check=False)
    world.mailhaul("domain", "set", "example.test", "--rollback-days", "14")
    assert done.returncode == 1 and "more than 0 days ago" in done.stderr
    assert world.account(user)["rollback"] == "no"
    # what was asked for can be called off
    pop = world.pop3(user)
    world.mailhaul("rollback", address)
    wait_until(lambda: world.account(user)["rollback"] == "new_mail")
    wait_until(lambda: "back-failed" in world.node.log.read_text())
    world.mailhaul("cutover", address)
    pop.quit()
    row = world.account(user)
    assert (row["rollback"], row["route"]) == ("no", "local")
    assert not any(job["kind"] == "rollback" for job in row["jobs"])
    world.add_legacy_user("user012")
    done = world.mailhaul("rollback", world.address("user012"), check=False)
    assert done.returncode == 1 and "no such account" in done.stderr
