"""The way back, disturbed: mail and readers all the while, the state process
killed in its hold, a worker killed at its writes. Each message is on legacy
once, and nobody looks where mail does not go."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lib.flipping import Background
from lib.mailbox import append
from lib.senders import Sender
from lib.snapshot import find_serials
from lib.waiting import wait_until
from lib.worker_box import Mailbox

WORLD = {"cutover": "manual", "delta_seconds": 2, "more_users": 8}
SHIM = Path(__file__).resolve().parents[1] / "fakes" / "kill_at_write.c"
EVERY = int(os.environ.get("MAILHAUL_EVERY", "0"))
KILLS = 24  # where not every write is tried


def serials(world, user, side):
    imap = world.imap(user, side)
    found = find_serials(imap)
    imap.logout()
    return found


def moved(flipping):
    """A user who lives on local, with a message that only local has."""
    world, user = flipping.world, flipping.copied()
    flipping.cutover(user)
    flipping.await_moved(user)
    flipping.await_place(user, world.send(user, serial=f"{user}-here"))
    return user


def hold(flipping, user):
    """Begin the way back; the Stop of its last pass, with the account held."""
    world = flipping.world
    stop = flipping.imap.stop(rb" LIST ", world.address(user), "command",
                              lambda: flipping.is_held(user))
    world.mailhaul("rollback", world.address(user))
    stop.wait()
    return stop


def check_back(flipping, user):
    world = flipping.world
    world.wait_account(user, route="legacy")
    assert flipping.places(user, f"{user}-here", "legacy") == \
        flipping.places(user, f"{user}-here", "mailhaul")
    found = serials(world, user, "legacy")
    assert all(len(places) == 1 for places in found.values()), found


@pytest.mark.parametrize("what", ["state", "all"])
def test_killed_in_the_hold_the_account_is_local_again(flipping, what):
    world, user = flipping.world, moved(flipping)
    stop = hold(flipping, user)
    reader = Background(world.imap, user)
    if what == "state":
        assert world.kill("state") == 1
        reader.result().logout()  # it waited, and heard of no failure
    else:
        world.restart_node()
    stop.release()
    row = world.wait_account(user, route="local", provisioned=True)
    assert (row["copy"], row["rollback"]) == ("trail", "new_mail")
    serial = world.send(user)
    flipping.await_place(user, serial)
    world.wait_account(user, route="legacy")  # tried again by itself
    check_back(flipping, user)
    assert len(flipping.places(user, serial, "legacy")) == 1
    # nobody enters local past mailhaul
    with pytest.raises(world.imap_connect("local").error):
        world.imap(user, "local")


def test_who_waits_in_the_hold_goes_on_at_legacy(flipping):
    world, user = flipping.world, moved(flipping)
    with world.imap_wire(user) as wire:
        wire.ok("SELECT INBOX")
        stop = hold(flipping, user)
        wire.read_to_end()  # it was quiet, and ended
    clients = [Background(world.imap, user), Background(world.pop3, user),
               Background(world.send, user)]
    stop.release()
    world.wait_account(user, route="legacy")
    clients[0].result().logout()
    clients[1].result().quit()
    flipping.await_place(user, clients[2].result(), "legacy")
    check_back(flipping, user)


def test_a_pop3_session_is_not_cut(flipping):
    world, user = flipping.world, moved(flipping)
    pop = world.pop3(user)
    world.mailhaul("rollback", world.address(user))
    assert wait_until(lambda: flipping.logged(user, "back-failed"))
    assert pop.noop().startswith(b"+OK")
    pop.quit()
    check_back(flipping, user)


def test_mail_that_comes_all_the_while_is_in_one_place(flipping):
    world, user = flipping.world, moved(flipping)
    address = world.address(user)
    senders = [Sender(f"s{n}", world.own["smtp"], f"s{n}@sender.test", address,
                      0.05) for n in range(3)]
    for sender in senders:
        sender.start()
    wait_until(lambda: all(len(s.accepted) > 5 for s in senders))
    world.mailhaul("rollback", address, "--wait")
    counts = [len(s.accepted) for s in senders]
    wait_until(lambda: all(len(s.accepted) > n + 3
                           for s, n in zip(senders, counts)))
    accepted = [x for s in senders for x in s.stop().accepted]
    assert not any(s.refused for s in senders)
    found = wait_until(lambda: (lambda f: f if set(accepted) <= set(f) else
                                None)(serials(world, user, "mailhaul")))
    assert {s: len(found[s]) for s in accepted if len(found[s]) != 1} == {}
    assert world.account(user)["route"] == "legacy"


# ---- a worker that dies at its writes ----


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    built = tmp_path_factory.mktemp("shim") / "kill_at_write.so"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-o",
                    built, SHIM, "-ldl"], check=True)
    return built


def chosen(total):
    if EVERY:
        return range(1, total + 1)
    return range(1, total + 1, max(total // KILLS, 1) | 1)


def append_here(world, serial):
    imap = world.imap("alice", "local")
    for folder in ("INBOX", "Sent"):
        append(imap, folder, f"here\r\nX-Serial: {serial}-{folder}",
               "(\\Seen $label1)")
    imap.logout()


def count_on(world, folder, more):
    """Local gives out UIDs that legacy does not have yet."""
    imap = world.imap("alice", "legacy")
    uidnext = int(imap.status(folder, "(UIDNEXT)")[1][0].split()[-1][:-1])
    imap.logout()
    subprocess.run(["doveadm", "-c", str(world.local_dovecot.conf), "mailbox",
                    "update", "-u", "alice@example.test", "--min-next-uid",
                    str(uidnext + more), folder], check=True)


def test_killed_at_a_write_it_takes_each_message_back_once(make_world, shim,
                                                           tmp_path):
    world = make_world(cutover="manual")
    world.fill("alice", messages=20, folders=2, total=50_000)
    world.imap("alice").logout()
    world.wait_account("alice", copy="delta")
    world.mailhaul("cutover", "alice@example.test")
    epoch = world.wait_account("alice", route="local")["epoch"]
    world.stop("mailhauld")
    mailbox = Mailbox(tmp_path / "job", world, shim)
    mailbox.maildir, = world.settings.store.glob("*/alice/Maildir")
    mailbox.ledger = next((world.folder / "state" / "ledger").rglob(
        "ledger.db")).parent
    mailbox.options = {"is_last": True, "with_changes": True}
    append_here(world, "first")
    before = world.snapshot("alice", "legacy", bodies=False)
    total = mailbox.count_writes("rollback", epoch)
    print(f"rollback: {total} writes")
    wanted = ["first"]
    for turn, number in enumerate(chosen(total)):
        wanted.append(f"at-{number}")
        append_here(world, wanted[-1])
        count_on(world, "INBOX", 40)  # so that placeholders are needed
        status, said = mailbox.run("rollback", epoch, KILL_AT=str(number))
        assert status in (0, -signal.SIGKILL), (number, said)
        # given up: the trail comes next, and takes none of it for late mail
        for kind in ("trail", "rollback")[turn % 2:]:
            status, said = mailbox.run(kind, epoch)
            assert status == 0, (number, kind, said)
    names = {f"{s}-{folder}": [folder] for s in wanted
             for folder in ("INBOX", "Sent")}
    for side in ("legacy", "local"):
        found = serials(world, "alice", side)
        assert {s: [f for f, _ in places] for s, places in found.items()
                if s in names} == names, side
    after = world.snapshot("alice", "legacy", bodies=False)
    assert {n: len(f.messages) for n, f in after.items()} == {
        n: len(f.messages) + (len(wanted) if n in ("INBOX", "Sent") else 0)
        for n, f in before.items()}
    copy_forward(world, mailbox, epoch + 2)


def copy_forward(world, mailbox, epoch):
    """Copy again over what local has left, killed at writes: the result is
    always the same."""
    mailbox.options = {}
    total = None
    before = Mailbox(mailbox.folder.parent / "before", world, mailbox.shim)
    before.folder.mkdir()
    subprocess.run(["cp", "-a", mailbox.maildir, before.maildir], check=True)
    subprocess.run(["cp", "-a", mailbox.ledger, before.ledger], check=True)
    before.adopt_place()
    calm = before.fork("calm")
    total = calm.count_writes("delta", epoch)
    print(f"delta: {total} writes")
    undisturbed = calm.files()
    assert not [n for n in undisturbed if "/cur/" in n and ".mailhaul," not in n]
    for number in chosen(total):
        wild = before.fork("wild")
        status, said = wild.run("delta", epoch, KILL_AT=str(number))
        assert status == -signal.SIGKILL, (number, said)
        status, said = wild.run("delta", epoch)
        assert status == 0, (number, said)
        messages = [{n: t for n, t in files.items() if "/cur/" in n}
                    for files in (undisturbed, wild.files())]
        assert messages[0] == messages[1], number
        wild.remove()
