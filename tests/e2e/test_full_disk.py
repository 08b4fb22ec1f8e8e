"""No room at any of the writes of a worker or of the state process: what is
there stays right, it is tried again, and ends byte for byte as if there had
always been room. MAILHAUL_EVERY=1 in the environment tries every write of the
worker's jobs."""

import imaplib
import json
import os
import time

import pytest

from lib.full_disk import FullDisk, build_shim
from lib.snapshot import differences
from lib.waiting import wait_until
from lib.worker_box import (Mailbox, append_late, change, change_little,
                            serials_on_local, tell)

EVERY = int(os.environ.get("MAILHAUL_EVERY", "0"))
TRIES = 10  # of each job, where not all are tried
STATE_WRITES = (1, 4, 9, 17, 28, 44)


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return build_shim(tmp_path_factory.mktemp("shim"))


def chosen(total, part):
    step = 1 if EVERY else max(total // TRIES, 1)
    return range(1 + part % step, total + 1, step)


def said_of(text):
    """The last words of a worker: its report."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return json.loads(lines[-1])


def fill_and_recover(before, disk, kind, number):
    """One job on a disk that is full from that write on, then with room."""
    wild = before.fork("wild")
    epoch = 2 if kind == "final" else 1
    disk.fill_at(number, half=number % 2 == 0)
    status, said = wild.run(kind, epoch, **disk.environment)
    failed = disk.failed
    disk.make_room()
    assert failed, (kind, number, said)
    assert status >= 0, (kind, number, "killed", said)
    if status != 0:  # nothing has to be resumed by hand
        assert said_of(said)["kind"] == "retry", (kind, number, said)
    after = [(kind, epoch)] if kind != "final" \
        else [("delta", 3), ("final", 4)]
    for job in after:
        status, said = wild.run(*job)
        assert status == 0, (kind, number, job, said)
    return wild


def try_all(before, disk, kind, calm, part):
    counting = before.fork("wild")
    disk.make_room()
    status, said = counting.run(kind, 2 if kind == "final" else 1,
                                **disk.environment)
    total = disk.counted
    assert status == 0 and total > 20, (total, said)
    counting.remove()
    undisturbed = calm.files()
    for number in chosen(total, part):
        wild = fill_and_recover(before, disk, kind, number)
        assert wild.files() == undisturbed, (
            kind, number, tell(undisturbed, wild.files()))
        assert wild.modseqs().keys() == calm.modseqs().keys()
        wild.remove()


def test_a_worker_that_finds_no_room_at_a_write_goes_on_later(servers, shim,
                                                              tmp_path):
    servers.fill("alice", messages=40, folders=3, total=300_000)
    disk = FullDisk(tmp_path, shim, "mailhaul-worker")
    nothing = Mailbox(tmp_path / "nothing", servers, shim)
    copied = nothing.fork("copied")
    assert copied.run("initial")[0] == 0
    try_all(nothing, disk, "initial", copied, 0)
    change(servers)
    followed = copied.fork("followed")
    assert followed.run("delta")[0] == 0
    try_all(copied, disk, "delta", followed, 1)
    change_little(servers)
    flipped = followed.fork("flipped")
    assert flipped.run("final", 2)[0] == 0
    try_all(followed, disk, "final", flipped, 2)


def test_a_trail_that_finds_no_room_brings_each_message_once(
        make_world, shim, tmp_path):
    world = make_world(cutover="auto", delta_seconds=1)
    world.fill("alice", messages=20, folders=2, total=50_000)
    world.imap("alice").logout()
    epoch = world.wait_account("alice", 60, route="local",
                               provisioned=True)["epoch"]
    world.stop("mailhauld")
    disk = FullDisk(tmp_path, shim, "mailhaul-worker")
    mailbox = Mailbox(tmp_path / "job", world, shim)
    mailbox.maildir, = world.settings.store.glob("*/alice/Maildir")
    mailbox.ledger = next((world.folder / "state" / "ledger").rglob(
        "ledger.db")).parent
    append_late(world, "first")
    assert mailbox.run("trail", epoch, **disk.environment)[0] == 0
    serials, number = ["first"], 0
    total = disk.counted
    for number in chosen(total, 0):
        serials.append(f"at-{number}")
        append_late(world, serials[-1])
        disk.fill_at(number)
        status, said = mailbox.run("trail", epoch, **disk.environment)
        disk.make_room()
        assert status == 0 or said_of(said)["kind"] == "retry", (number, said)
        status, said = mailbox.run("trail", epoch)
        assert status == 0, (number, said)
    assert {s: [folder for folder, _ in places] for s, places in
            serials_on_local(world).items()} == {
                f"{s}-{folder}": [folder] for s in serials
                for folder in ("INBOX", "Sent")}


def test_state_that_finds_no_room_at_a_write_takes_up_where_it_was(
        make_world, monkeypatch):
    """Control db and what local reads: each user comes while another write of
    his way to local finds none."""
    world = make_world(run=False, cutover="auto", delta_seconds=1,
                       more_users=len(STATE_WRITES))
    # where the user of the state process may read it
    disk = FullDisk(world.folder, build_shim(world.folder), "--role state")
    users = [f"user{n:03}" for n in range(1, len(STATE_WRITES) + 1)]
    for user in users:
        world.fill(user, messages=8, folders=2, total=20_000)
    before = {user: world.snapshot(user, "legacy") for user in users}
    world.node.cli("init")
    world.add_domain()
    for name, value in disk.environment.items():
        monkeypatch.setenv(name, value)
    world.run_node()
    for name in disk.environment:
        monkeypatch.delenv(name)
    world.imap("alice").logout()
    world.wait_account("alice", 60, route="local", provisioned=True)
    for user, number in zip(users, STATE_WRITES):
        disk.fill_at(number, once=True)
        wait_until(lambda: hears_nothing_wrong(world, user), 30, 0.2)
        wait_until(lambda: hears_nothing_wrong(world, user) and disk.failed,
                   30, 0.2, world.log_tail)
        # who is known goes on being served
        wait_until(lambda: hears_nothing_wrong(world, "alice"), 30, 0.2)
        wait_until(lambda: world.account(user)
                   or not hears_nothing_wrong(world, user), 30, 0.2)
        world.wait_account(user, 60, route="local", provisioned=True)
    for user in users:
        assert differences(before[user], world.snapshot(user)) == [], user


def hears_nothing_wrong(world, user):
    """Whether a login is served; if not, it is told to come again."""
    began = time.monotonic()
    try:
        world.imap(user).logout()
        return True
    except imaplib.IMAP4.error as refused:
        assert "AUTHENTICATIONFAILED" not in str(refused), refused
        return False
    except OSError:
        assert time.monotonic() - began < 30
        return False
