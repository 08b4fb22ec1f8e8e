"""Passwords that change around the flip."""

import pytest
from lib.old_domains import imap_answer, is_refusal, is_temporary, pop3_answer
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 12}


def flipped(world, user, logs_in=True):
    """An account that was moved and has not been used since."""
    if logs_in:
        world.imap(user).logout()
    world.wait_account(user, copy="delta")
    world.mailhaul("cutover", world.address(user))
    return world.wait_account(user, route="local")


def imap_in(world, user, password):
    answer, untagged, _ = imap_answer(world, world.address(user), password)
    return answer, untagged


def pop3_in(world, user, password):
    return pop3_answer(world, world.address(user), password)[0]


def test_the_first_good_login_on_local_confirms_the_password(shared_world):
    world, user = shared_world, "user001"
    assert flipped(world, user)["password_state"] == "learnt"
    assert is_refusal(imap_in(world, user, "wrong")[0])
    assert world.account(user)["password_state"] == "learnt"
    world.imap(user).logout()
    world.wait_account(user, password_state="confirmed")
    # it is local's password now, whatever legacy thinks
    world.set_legacy_password(user, "new-on-legacy")
    assert imap_in(world, user, "pw-user001")[0].startswith("OK")


@pytest.mark.parametrize("user, way", [("user002", "imap"),
                                       ("user003", "pop3")])
def test_a_password_changed_on_legacy_after_the_flip_is_learnt(
        shared_world, user, way):
    world = shared_world
    flipped(world, user)
    world.set_legacy_password(user, "new-" + user)
    if way == "imap":
        answer, _ = imap_in(world, user, "new-" + user)
        assert answer.startswith("OK"), answer
    else:
        answer = pop3_in(world, user, "new-" + user)
        assert answer.startswith("+OK"), answer
    world.wait_account(user, password_state="confirmed")
    # it is local's password now, whatever legacy thinks
    world.set_legacy_password(user, "third-" + user)
    assert imap_in(world, user, "new-" + user)[0].startswith("OK")


def test_what_both_refuse_is_refused_and_changes_nothing(shared_world):
    world, user = shared_world, "user004"
    before = flipped(world, user)
    assert is_refusal(imap_in(world, user, "wrong")[0])
    assert is_refusal(pop3_in(world, user, "wrong"))
    after = world.account(user)
    assert after["password_state"] == "learnt"
    assert after["epoch"] == before["epoch"]
    assert imap_in(world, user, "pw-user004")[0].startswith("OK")


def test_a_password_changed_before_the_flip_is_learnt_on_legacy(shared_world):
    world, user = shared_world, "user005"
    world.imap(user).logout()
    world.wait_account(user, copy="delta")
    world.set_legacy_password(user, "new-user005")
    assert is_refusal(imap_in(world, user, "pw-user005")[0])
    assert imap_in(world, user, "new-user005")[0].startswith("OK")
    wait_until(lambda: world.account(user)["last_error"] is None, 30)
    flipped(world, user, logs_in=False)
    assert imap_in(world, user, "new-user005")[0].startswith("OK")
    world.wait_account(user, password_state="confirmed")
    assert is_refusal(imap_in(world, user, "pw-user005")[0])


def test_a_password_changed_and_not_yet_used_stops_the_flip(shared_world):
    world, user = shared_world, "user006"
    world.imap(user).logout()
    world.wait_account(user, copy="delta")
    world.set_legacy_password(user, "new-user006")
    world.mailhaul("cutover", world.address(user), check=False)
    wait_until(lambda: world.account(user)["last_error"], 60)
    assert world.account(user)["route"] == "legacy"
    assert imap_in(world, user, "new-user006")[0].startswith("OK")
    world.mailhaul("account", "resume", world.address(user), check=False)
    world.mailhaul("cutover", world.address(user), check=False)
    world.wait_account(user, route="local")
    assert imap_in(world, user, "new-user006")[0].startswith("OK")


def test_with_legacy_down_local_alone_lets_in_and_refusals_are_temporary(
        make_world):
    """Local's refusal is no proof while legacy cannot be asked."""
    world = make_world(cutover="manual")
    flipped(world, "alice")
    flipped(world, "bob")
    world.imap("bob").logout()
    world.wait_account("bob", password_state="confirmed")
    world.stop("legacy-dovecot")
    assert is_temporary(imap_in(world, "alice", "wrong")[0])
    assert is_temporary(pop3_in(world, "alice", "wrong"))
    # his might be an app password that only legacy knows
    assert is_temporary(imap_in(world, "bob", "wrong")[0])
    assert imap_in(world, "alice", "pw-alice")[0].startswith("OK")
    world.wait_account("alice", password_state="confirmed")
    world.mailhaul("domain", "set", "example.test", "--learn-days", "0")
    for user in ("alice", "bob"):
        assert is_refusal(imap_in(world, user, "wrong")[0])
    world.mailhaul("domain", "set", "example.test", "--learn-days", "30")
    # and with local down nobody hears of a wrong password
    world.stop("local-dovecot")
    for user in ("alice", "bob"):
        assert is_temporary(imap_in(world, user, f"pw-{user}")[0])
        assert is_temporary(pop3_in(world, user, f"pw-{user}"))


@pytest.mark.parametrize("password", ["p\u00e4ss w\u00f6rt", 'q"u\\o{3}', "x" * 200])
def test_a_strange_password_works_on_both_sides(shared_world, password):
    world = shared_world
    user = {"p": "user007", "q": "user008", "x": "user009"}[password[0]]
    world.set_legacy_password(user, password)

    def log_in():
        with world.imap_wire() as wire:
            raw, name = password.encode(), world.address(user)
            wire.send(f"t LOGIN {name} {{{len(raw)}+}}\r\n".encode() + raw +
                      b"\r\n")
            return wire.finish("t")[0]
    assert log_in().startswith(b"OK")
    flipped(world, user, logs_in=False)
    assert log_in().startswith(b"OK")
    world.wait_account(user, password_state="confirmed")
