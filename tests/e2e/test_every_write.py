"""A worker killed at any of its writes: rerun, it leaves the store that it
leaves undisturbed. MAILHAUL_EVERY=1 in the environment tries every write, and
each write half done; otherwise some, and others in each job."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lib.worker_box import (Mailbox, append_late, change, change_little,
                            serials_on_local, tell)

SHIM = Path(__file__).resolve().parents[1] / "fakes" / "kill_at_write.c"
EVERY = int(os.environ.get("MAILHAUL_EVERY", "0"))
KILLS = 24  # of each job, where not all are tried


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    built = tmp_path_factory.mktemp("shim") / "kill_at_write.so"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-o",
                    built, SHIM, "-ldl"], check=True)
    return built


def chosen(total, part):
    """The writes to die at: all, or some spread over the job."""
    if EVERY:
        return range(1, total + 1)
    step = max(total // KILLS, 1)
    return range(1 + part % step, total + 1, step)


def die_and_recover(before, kind, number, half):
    """One worker that dies at that write, and what is run after it."""
    wild = before.fork("wild")
    environment = {"KILL_AT": str(number), **({"KILL_HALF": "1"} if half
                                              else {})}
    epoch = 2 if kind == "final" else 1
    status, said = wild.run(kind, epoch, **environment)
    assert status == -signal.SIGKILL, (number, said)
    after = [(kind, epoch)] if kind != "final" \
        else [("delta", 3), ("final", 4)]
    for job in after:
        status, said = wild.run(*job)
        assert status == 0, (kind, number, job, said)
    return wild


def try_all(before, kind, calm, total, part):
    undisturbed, folders = calm.files(), calm.modseqs().keys()
    for number in chosen(total, part):
        for half in ((False, True) if EVERY else (number % 2 == 0,)):
            wild = die_and_recover(before, kind, number, half)
            assert wild.files() == undisturbed, (
                kind, number, half, tell(undisturbed, wild.files()))
            assert wild.modseqs().keys() == folders
            assert min(wild.modseqs().values()) > 1_000_000
            wild.remove()


def test_a_worker_killed_at_a_write_leaves_nothing_behind(servers, shim,
                                                          tmp_path):
    servers.fill("alice", messages=40, folders=3, total=300_000)
    nothing = Mailbox(tmp_path / "nothing", servers, shim)
    calm = nothing.fork("copied")
    total = calm.count_writes("initial")
    print(f"initial: {total} writes")
    try_all(nothing, "initial", calm, total, 0)
    change(servers)
    copied, calm = calm, calm.fork("followed")
    total = calm.count_writes("delta")
    print(f"delta: {total} writes")
    try_all(copied, "delta", calm, total, 1)
    change_little(servers)
    followed, calm = calm, calm.fork("flipped")
    total = calm.count_writes("final", 2)
    print(f"final: {total} writes")
    try_all(followed, "final", calm, total, 2)


def test_a_trail_killed_at_a_write_brings_each_message_once(
        make_world, shim, tmp_path):
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
    append_late(world, "first")
    total = mailbox.count_writes("trail", epoch)
    print(f"trail: {total} writes")
    serials = ["first"]
    for number in chosen(total, 0):
        serials.append(f"at-{number}")
        append_late(world, serials[-1])
        status, said = mailbox.run("trail", epoch, KILL_AT=str(number))
        assert status in (0, -signal.SIGKILL), (number, said)
        for _ in range(2):
            status, said = mailbox.run("trail", epoch)
            assert status == 0, (number, said)
    assert {s: [folder for folder, _ in places] for s, places in
            serials_on_local(world).items()} == {
                f"{s}-{folder}": [folder] for s in serials
                for folder in ("INBOX", "Sent")}
