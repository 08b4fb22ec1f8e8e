"""Windows of the week, with the real daemon at the clock changes of Berlin in
2027: on March 28 at 01:00 UTC 02:00 becomes 03:00, on October 31 at 01:00 UTC
03:00 becomes 02:00. In order of time."""

import json

from lib.clock import restart, started_at, utc
from lib.waiting import wait_until

# without TLS between the servers: certificates are of the real time
WORLD = {"cutover": "auto", "legacy_tls": "none", "delta_seconds": 2,
         "trail_inbox_seconds": 300, "trail_seconds": 600}
EARLY_S = 12  # that a mailbox is copied and waits when the window opens


def set_domain(world, *args):
    return world.mailhaul("domain", "set", world.settings.domain, *args)


def deltas(world, user, gate):
    """Lines of the log of its deltas that came to that gate."""
    text = world.node.log.read_text(errors="replace")
    return [line for line in text.splitlines()
            if f"account {world.address(user)} delta " in line
            and line.endswith(f"flip={gate}")]


def check_opens(world, user, window, opens_at):
    """The mailbox is copied before, waits, and flips when it opens."""
    set_domain(world, "--cutover", window)
    restart(world, opens_at - EARLY_S)
    with started_at(opens_at - EARLY_S):  # it reads the database by itself
        shown = world.mailhaul("domain", "show", world.settings.domain)
    assert shown["opens_at"] == opens_at * 1000 and not shown["window_open"]
    world.imap(user).logout()
    row = world.wait_account(user, route="local")
    assert opens_at * 1000 <= row["flipped_at"] < (opens_at + 60) * 1000
    assert deltas(world, user, "window_shut")
    assert row["opens_at"] is None


def test_window_that_begins_in_the_hour_that_is_left_out(shared_world):
    check_opens(shared_world, "alice", "Su 02:30-05:00 Europe/Berlin",
                utc("2027-03-28 01:00:00"))


def test_window_that_begins_in_the_hour_that_comes_twice(shared_world):
    check_opens(shared_world, "bob", "Su 02:30-05:00 Europe/Berlin",
                utc("2027-10-31 00:30:00"))


def test_window_that_has_ended_does_not_open_again(shared_world):
    """At 02:01 for the second time it is over since 02:30 of the first."""
    world = shared_world
    set_domain(world, "--cutover", "Su 01:00-02:30 Europe/Berlin")
    restart(world, utc("2027-10-31 01:01:00"))
    world.imap("carol").logout()
    wait_until(lambda: len(deltas(world, "carol", "window_shut")) >= 2, 60)
    row = world.account("carol")
    assert row["route"] == "legacy"
    assert row["opens_at"] == utc("2027-11-07 00:00:00") * 1000
    # who asks for it by name does not wait for the hour
    world.mailhaul("cutover", world.address("carol"))
    world.wait_account("carol", route="local")


def test_blackout_is_for_operators_too_unless_they_say_now(shared_world):
    """On October 31 in Berlin, the window open."""
    world = shared_world
    set_domain(world, "--cutover", "00:00-24:00 Europe/Berlin",
               "--blackout", "2027-10-31..2027-11-01")
    world.imap("dave").logout()
    wait_until(lambda: deltas(world, "dave", "blackout"), 60)
    assert world.account("dave")["opens_at"] == \
        utc("2027-11-01 23:00:00") * 1000
    done = world.mailhaul("cutover", world.address("dave"), check=False)
    assert done.returncode == 1
    assert "blackout" in json.loads(done.stdout)["error"]
    assert world.account("dave")["route"] == "legacy"
    world.mailhaul("cutover", world.address("dave"), "--now")
    world.wait_account("dave", route="local")
