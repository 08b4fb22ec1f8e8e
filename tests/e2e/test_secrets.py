"""No password is to be found in anything that mailhaul writes or shows."""

import base64
import os
import re
import signal
import sqlite3
from pathlib import Path

import pytest
from lib.old_domains import imap_answer, pop3_answer
from lib.waiting import wait_until

WORLD = {"log_level": "trace", "cutover": "manual"}
SECRETS = {"alice": "Geheim-Alice-7781", "bob": "Geheim-Bob-7782",
           "carol": "Geheim-Carol-7783", "erin": "Geheim-Erin-7785"}
WRONG = "Falsch-Dave-7784"


def forms(password, user):
    """As it could stand somewhere: plain, and in base64 at each offset."""
    raw = password.encode()
    found = {raw, raw.hex().encode()}
    for before in (b"", b"x", b"xx"):
        coded = base64.b64encode(before + raw)
        # the characters that depend on nothing but the password
        found.add(coded[4 if before else 0:-4])
    found.add(base64.b64encode(b"\0" + user.encode() + b"\0" + raw)[:-4])
    return {f for f in found if len(f) > 8}


def all_forms(world):
    needles = forms(WRONG, world.address("dave"))
    for user, password in SECRETS.items():
        needles |= forms(password, world.address(user))
    return needles


@pytest.fixture(scope="module")
def used(shared_world):
    """A world in which those passwords were used in every way; yields what
    every process of ours showed meanwhile."""
    world = shared_world
    shown = {}
    for user, password in SECRETS.items():
        world.set_legacy_password(user, password)
    imap_answer(world, world.address("alice"), SECRETS["alice"])
    pop3_answer(world, world.address("bob"), SECRETS["bob"])
    imap_answer(world, world.address("dave"), WRONG)
    pop3_answer(world, world.address("dave"), WRONG)
    with world.imap_wire(tls="starttls") as wire:
        coded = base64.b64encode(
            f"\0{world.address('carol')}\0{SECRETS['carol']}".encode())
        wire.ok(f"AUTHENTICATE PLAIN {coded.decode()}")
    csv = world.folder / "list.csv"
    csv.write_text(f"{world.address('erin')},,{SECRETS['erin']}\n")
    world.mailhaul("migrate", "--csv", csv, "--wait")
    csv.unlink()
    show(world, shown)
    for user in ("alice", "bob", "carol"):
        world.wait_account(user, copy="delta")
    world.mailhaul("cutover", world.address("alice"))
    wait_until(lambda: show(world, shown) or
               world.account("alice")["route"] == "local", 60)
    imap_answer(world, world.address("alice"), SECRETS["alice"])
    imap_answer(world, world.address("alice"), WRONG)
    # half a login, and one to a server that is down
    with world.wire("imap") as wire:
        wire.send(f"a LOGIN {world.address('bob')} {{{len(SECRETS['bob'])}+}}"
                  f"\r\n{SECRETS['bob'][:-1]}")
        wire.send("\r\n")
    world.stop("legacy-dovecot")
    imap_answer(world, world.address("bob"), SECRETS["bob"])
    pop3_answer(world, world.address("bob"), SECRETS["bob"])
    world.start("legacy-dovecot")
    world.wait_ready("legacy-dovecot")
    show(world, shown)
    return shown


def show(world, shown):
    master = world.records.pid("mailhauld")
    for pid in [master, *(pid for pid, _ in world.processes())]:
        for name in ("cmdline", "environ"):
            try:
                shown.setdefault((pid, name), Path(
                    f"/proc/{pid}/{name}").read_bytes())
            except OSError:
                pass
    return False


def test_no_argument_and_no_environment_holds_a_password(shared_world, used):
    assert any(name == "cmdline" for _, name in used)
    for raw in used.values():
        for needle in all_forms(shared_world):
            assert needle not in raw


def test_no_log_and_no_file_of_ours_holds_a_password(shared_world, used):
    """The log at its most talkative, control db with its WAL, ledgers, auth.db,
    journals: everything but the old server's own files."""
    world, needles = shared_world, all_forms(shared_world)
    log = world.node.log.read_bytes()
    assert b" trace " in log and b"alice@" in log
    kept = [world.node.log, *world.settings.store.rglob("*"),
            *(world.folder / "state").rglob("*"),
            *(world.folder / "local").rglob("*")]
    seen = set()
    for path in kept:
        if not path.is_file():
            continue
        raw = path.read_bytes()
        seen.add(path.name)
        for needle in needles:
            assert needle not in raw, path
    assert {"control.db", "ledger.db", "auth.db"} <= seen, seen


def test_no_command_prints_a_password(shared_world, used):
    world = shared_world
    for args in (["account", "list"], ["status"], ["domain", "list"],
                 ["account", "show", world.address("erin")]):
        done = world.mailhaul(*args, check=False)
        said = (done.stdout + done.stderr).encode()
        assert done.returncode == 0
        assert not any(needle in said for needle in all_forms(world))


def test_passwords_are_sealed_at_rest_and_the_key_is_apart(shared_world, used):
    world, state = shared_world, shared_world.folder / "state"
    with sqlite3.connect(f"file:{state}/control.db?mode=ro", uri=True) as db:
        tables = [t for t, in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert tables
        rows = b"\n".join(repr(row).encode() for table in tables
                          for row in db.execute(f'SELECT * FROM "{table}"'))
    assert b"alice@example.test" in rows
    assert [p.name for p in state.iterdir() if "seal" in p.name] == [
        "seal.pub"]
    key = world.folder / "keys" / "mailhaul.key"
    assert key.stat().st_mode & 0o077 == 0
    text = key.read_bytes().strip()
    for path in (p for p in state.rglob("*") if p.is_file()):
        held = path.read_bytes()
        assert text not in held and base64.b64decode(text) not in held, path
    for path in state.rglob("control.db*"):
        assert path.stat().st_mode & 0o007 == 0, path
    # what local reads is a hash with a salt
    with sqlite3.connect(world.settings.auth_db) as db:
        hashes = [h for h, in db.execute("SELECT password FROM users")]
    assert hashes and all("CRYPT}$6$" in h for h in hashes)
    assert len(set(hashes)) == len(hashes)


def test_no_process_leaves_a_core_or_lets_itself_be_read(shared_world, used):
    world = shared_world
    pids = [world.records.pid("mailhauld"),
            *(pid for pid, argv in world.processes() if "mailhaul" in argv[0])]
    assert len(pids) >= 5
    for pid in pids:
        limits = Path(f"/proc/{pid}/limits").read_text()
        core = re.search(r"Max core file size\s+(\d+|unlimited)\s+(\S+)",
                         limits)
        # who is not dumpable belongs to root in /proc
        owner = os.stat(f"/proc/{pid}/mem").st_uid
        uid = int(re.search(r"Uid:\s+(\d+)", Path(
            f"/proc/{pid}/status").read_text())[1])
        assert core[1] == "0" or (uid != 0 and owner == 0), (pid, core[0])
        if uid != 0:
            assert owner == 0, f"{pid} may be read by its own user"


def test_a_crash_leaves_no_core(shared_world, used):
    world = shared_world
    places = {Path(os.readlink(f"/proc/{pid}/cwd"))
              for pid, _ in world.processes()} | {world.folder / "state"}
    before = {p for place in places for p in place.glob("*core*")}
    for role in ("login", "state", "jobs"):
        pids = world.pids(role)
        world.kill(role, signal.SIGABRT)
        wait_until(lambda: pids != world.pids(role) and world.pids(role), 20)
    assert {p for place in places for p in place.glob("*core*")} == before
    wait_until(lambda: imap_answer(world, world.address("alice"),
                                   SECRETS["alice"])[0].startswith("OK"), 30, 1)
