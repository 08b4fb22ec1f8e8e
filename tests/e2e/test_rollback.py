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
