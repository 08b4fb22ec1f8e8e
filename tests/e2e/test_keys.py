"""Sealing keys: where they lie, their rotation under load, and what a copy of
the state directory opens afterwards: nothing."""

import base64
import os
import shutil
import signal
import sqlite3
import threading

from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 12}


def key_file(world):
    return world.folder / "keys" / "mailhaul.key"


def keys(world):
    return key_file(world).read_text().split()


def wrapped(folder):
    """The wrapped data keys of a copy of control.db."""
    with sqlite3.connect(f"file:{folder}/control.db?mode=ro", uri=True) as db:
        return {bytes(row[0]) for row in db.execute(
            "SELECT wrapped_key FROM secrets WHERE wrapped_key IS NOT NULL")}


def wrapped_ids(folder):
    """Of the keys that they are wrapped to."""
    return {key[1:5].hex() for key in wrapped(folder)}


def copy_state(world, name):
    to = world.folder / name
    shutil.copytree(world.folder / "state", to,
                    ignore=shutil.ignore_patterns("*.sock", "trace"))
    return to


def users(world):
    return [f"user{n:03}" for n in range(1, world.settings.more_users + 1)]


def learn(world, names):
    for name in names:
        world.imap(name).logout()
    for name in names:
        world.wait_account(name, copy="delta")


def test_the_key_lies_outside_of_the_state_directory(make_world):
    world = make_world(run=False, local_only=True)
    made = world.node.cli("init")
    assert str(key_file(world)) in made
    assert key_file(world).stat().st_mode & 0o777 == 0o600
    text = keys(world)[0]
    raw = base64.b64decode(text)
    for path in (world.folder / "state").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert raw not in data and text.encode() not in data, path
    conf = world.node.conf.read_text()
    world.node.conf.write_text(conf.replace(
        f"{world.folder}/keys/", f"{world.folder}/state/"))
    done = world.mailhaul("status", check=False)
    assert done.returncode == 2 and "state_dir" in done.stderr


def test_a_rotation_while_running_loses_no_password(make_world):
    world = make_world(**WORLD)
    names = users(world)
    learn(world, names[:8])
    before = copy_state(world, "before")
    (old,) = keys(world)
    (old_id,) = wrapped_ids(before)

    stop = threading.Event()
    heard = []

    def log_in_steadily():
        at = 0
        while not stop.is_set():
            try:
                world.imap(names[8 + at % 4]).logout()
            except Exception as problem:  # what a user would have seen
                heard.append(repr(problem))
            at += 1

    clients = threading.Thread(target=log_in_steadily)
    clients.start()
    try:
        said = world.mailhaul("key", "rotate", "--wait")
    finally:
        stop.set()
        clients.join()
    assert heard == []
    (new,) = keys(world)
    assert new != old and said["older_keys"] == 0
    assert said["keys"] and old_id not in said["keys"]
    # who was sealed before is copied on and flips, with the new key
    for name in names[:2]:
        world.mailhaul("cutover", world.address(name))
    for name in names[:2]:
        world.wait_account(name, route="local")
        world.imap(name).logout()
    after = copy_state(world, "after")
    assert wrapped_ids(after) == set(said["keys"])
    # what was wrapped to the old key is nowhere in the live files
    gone = wrapped(before)
    assert len(gone) == 8 and not gone & wrapped(after)
    for path in (world.folder / "state").rglob("*"):
        if path.is_file():
            assert not any(key in path.read_bytes() for key in gone), path
    assert wrapped_ids(before) == {old_id}
    assert old not in key_file(world).read_text()
    rows = world.mailhaul("audit")["entries"]
    assert any(r["event"] == "key rotated" for r in rows)


def test_a_rotation_survives_kill_9(make_world):
    world = make_world(cutover="manual", more_users=4)
    names = users(world)
    learn(world, names)
    world.mailhaul("key", "rotate")
    for victim in ("jobs", "state", "master"):
        world.kill(victim)
    world.run_node()
    wait_until(lambda: len(keys(world)) == 1, 90, 0.3,
               lambda: world.log_tail())
    (new_id,) = world.mailhaul("key", "show")["keys"]
    assert wrapped_ids(world.folder / "state") == {new_id}
    for name in names[:2]:
        world.mailhaul("cutover", world.address(name))
        world.wait_account(name, route="local")


def test_a_rotation_without_a_daemon_goes_on_at_its_start(make_world):
    world = make_world(cutover="manual", more_users=2)
    learn(world, users(world))
    world.stop("mailhauld", number=signal.SIGTERM)
    said = world.mailhaul("key", "rotate")
    assert len(said["keys"]) == 2
    world.run_node()
    wait_until(lambda: len(keys(world)) == 1, 60, 0.3,
               lambda: world.log_tail())


def test_who_was_sealed_to_a_lost_key_brings_his_password_again(make_world):
    world = make_world(cutover="manual", more_users=2)
    one = users(world)[0]
    learn(world, [one])
    world.stop("mailhauld", number=signal.SIGTERM)
    os.unlink(key_file(world))
    world.node.cli("init")
    world.run_node()
    world.mailhaul("migrate", world.address(one), check=False)  # or it was due
    world.wait_account(one, copy="failed")
    assert world.account(one)["last_error_kind"] == "denied"
    world.imap(one).logout()
    world.wait_account(one, copy="delta")
    world.mailhaul("cutover", world.address(one))
    world.wait_account(one, route="local")
