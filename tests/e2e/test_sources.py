"""Every legacy server that runs here is copied exactly: what it serves over
IMAP is what local serves from the store."""

import pytest

from lib.source_mail import (change, change_mboxes, fill, fill_little,
                             fill_mboxes)
from lib.sources import KINDS, Copy, Source, look, uidls, unlike
from lib.waiting import wait_until

WORLD = {"local_only": True, "login_processes": 1, "cutover": "manual",
         "delta_seconds": 2}
USER = "alice@example.test"


@pytest.fixture(scope="module", params=KINDS)
def source(request, shared_world):
    made = Source(request.param, shared_world)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def copied(source):
    """What legacy and local looked like after each job."""
    seen = {"refused": fill(source, USER)}
    copy = Copy(source, USER, source.world.folder / f"copy-{source.name}")
    seen["filled"] = source.look(USER)
    seen["report"] = copy.run("initial")
    seen["initial"] = (source.look(USER),
                       copy.look_on_local(f"{source.name}-1", seen["report"]))
    seen["change"] = change(source, USER)
    seen["changed"] = source.look(USER)
    copy.run("delta")
    seen["delta"] = (source.look(USER),
                     copy.look_on_local(f"{source.name}-2", seen["report"]))
    before = copy.files()
    copy.run("delta")
    seen["nothing"] = (before, copy.files())
    copy.run("final")
    seen["final"] = (source.look(USER),
                     copy.look_on_local(f"{source.name}-3", seen["report"]))
    return seen


def test_what_the_server_refuses_is_known(source, copied):
    assert copied["refused"]["folders"] == source.kind.refuses


@pytest.mark.parametrize("job", ["initial", "delta", "final"])
def test_local_serves_what_legacy_serves(copied, job):
    assert unlike(*copied[job]) == []


@pytest.mark.parametrize("before, after", [
    ("filled", "initial"), ("changed", "delta")])
def test_copying_changes_nothing_on_legacy(copied, before, after):
    assert copied[before] == copied[after][0]


def test_nothing_new_is_nothing_written(copied):
    before, after = copied["nothing"]
    assert before == after


def test_pop3_ids_are_kept(source, copied):
    local = uidls(source.world.local["pop3"], f"{source.name}-3", "x")
    assert local == source.uidls(USER)


def seen_through_mailhaul(world, address):
    imap = world.imap(address)
    try:
        return look(imap)
    finally:
        imap.logout()


@pytest.mark.parametrize("source", ["courier", "cyrus"], indirect=True)
def test_a_user_moves_from_it_by_logging_in(source):
    world, address = source.world, f"ann@{source.domain}"
    fill_little(source, address)
    source.serve()
    before = source.look(address)
    assert seen_through_mailhaul(world, address) == before
    world.wait_account(address, copy="delta")
    wait_until(lambda: world.account(address)["clean"], 60)
    ids = source.uidls(address)
    world.mailhaul("cutover", address)
    world.wait_account(address, route="local")
    assert unlike(before, seen_through_mailhaul(world, address)) == []
    pop = world.pop3(address)
    assert [row.split()[1].decode() for row in pop.uidl()[1]] == ids
    pop.quit()
    assert world.mailhaul("verify", "--full", address)


def test_what_imap4d_serves_is_copied_exactly(shared_world):
    """Not its POP3: that writes header lines into the mailbox."""
    source = Source("mailutils", shared_world)
    try:
        fill_mboxes(source, USER)
        before = source.look(USER)
        copy = Copy(source, USER, shared_world.folder / "copy-mailutils")
        report = copy.run("initial")
        assert source.look(USER) == before
        assert unlike(before, copy.look_on_local("mailutils-1", report)) == []
        change_mboxes(source, USER)
        after = source.look(USER)
        copy.run("delta")
        assert source.look(USER) == after
        assert unlike(after, copy.look_on_local("mailutils-2", report)) == []
        files = copy.files()
        copy.run("delta")
        assert copy.files() == files
    finally:
        source.stop()
