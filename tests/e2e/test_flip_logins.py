"""The races of the flip: logins that come at the same time, a client that logs
in all the time, and who decides that a mailbox moves."""

import poplib
import threading
import time

import pytest

from lib.flipping import Background
from lib.snapshot import find_serials
from lib.waiting import wait_until

HOLD_SECONDS = 20
WORLD = {"cutover": "manual", "more_users": 20, "trail_inbox_seconds": 300,
         "trail_seconds": 600, "delta_seconds": 1,
         "hold_seconds": HOLD_SECONDS}


def pop3_as(world, name, user):
    pop = poplib.POP3("localhost", world.own["pop3"], timeout=60)
    pop.user(name)
    pop.pass_(world.password(user))
    return pop


def imap_as(world, name, user):
    imap = world.imap_connect()
    imap.login(name, world.password(user))
    return imap


def test_first_logins_at_once_make_one_account(flipping):
    """All proven by legacy at the same moment, under different spellings."""
    world, user = flipping.world, flipping.newcomer()
    address = world.address(user)
    names = [address, user.capitalize(), address.upper(), f"{user}+tag",
             f"{user.upper()}+x@EXAMPLE.test"]
    stops = [flipping.imap.stop(rb"^L LOGIN", address) for _ in names]
    stops += [flipping.pop3.stop(rb"^PASS ", address) for _ in names[:3]]
    clients = [Background(imap_as, world, name, user) for name in names]
    clients += [Background(pop3_as, world, name, user) for name in names[:3]]
    for stop in stops:
        stop.wait()
    assert world.account(user) is None
    for stop in stops:
        stop.release()
    for client in clients:
        client.result()
    world.wait_account(user, copy="delta", clean=True)
    listed = world.mailhaul("account", "list")["accounts"]
    assert [a["address"] for a in listed
            if a["address"].startswith(user)] == [address]
    assert len(flipping.logged(user, "learnt via")) == 1
    for client in clients[:len(names)]:
        assert client.value.select("INBOX")[1] == [b"5"]
        client.value.logout()
    for client in clients[len(names):]:
        client.value.quit()
    flipping.cutover(user)
    flipping.await_moved(user)
    for name in names:
        imap_as(world, name, user).logout()


def test_wrong_password_beside_the_right_one(flipping):
    """At the same moment: one is refused, one makes the account."""
    world, user = flipping.world, flipping.newcomer()
    address = world.address(user)
    stops = [flipping.imap.stop(rb"^L LOGIN", address) for _ in range(2)]
    good = Background(world.imap, user)
    bad = Background(world.imap, user, "mailhaul", "none", "guessed")
    for stop in stops:
        stop.wait()
    for stop in stops:
        stop.release()
    good.result().logout()
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        bad.result()
    world.wait_account(user, copy="delta", clean=True)
    flipping.cutover(user)
    flipping.await_moved(user)
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        world.imap(user, password="guessed")
    world.imap(user).logout()


def test_wrong_password_while_held_is_refused_behind_the_flip(flipping):
    world, user = flipping.world, flipping.copied()
    final = flipping.hold(user)
    bad = Background(world.imap, user, "mailhaul", "none", "guessed")
    good = Background(world.imap, user)
    final.release()
    good.result().logout()
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        bad.result()
    flipping.await_moved(user)


class Visitor(threading.Thread):
    """Logs in over and over, reads and leaves. Nothing may fail but a session
    that ends after its login, which a client takes for a lost connection."""

    def __init__(self, world, user):
        super().__init__(daemon=True)
        self.world, self.user = world, user
        self.ending = threading.Event()
        self.logins = self.cut = 0
        self.slowest_s = 0.0
        self.trouble = []
        self.start()

    def run(self):
        while not self.ending.is_set():
            began = time.monotonic()
            try:
                wire = self.world.imap_wire(self.user)
            except Exception as trouble:
                self.trouble.append(repr(trouble))
                return
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.logins += 1
            self._read(wire)

    def _read(self, wire):
        with wire:
            try:
                for command in ("SELECT INBOX", "UID FETCH 1:* (FLAGS)",
                                "LOGOUT"):
                    answer, said = wire.command(command)
                    if any(row.startswith(b"* BYE Mailbox is moving")
                           for row in said):
                        self.cut += 1
                        return
                    if not answer.startswith(b"OK"):
                        self.trouble.append((command, answer))
            except (EOFError, ConnectionError):
                self.cut += 1

    def stop(self):
        self.ending.set()
        self.join(60)
        assert not self.is_alive() and not self.trouble, self.trouble
        assert self.slowest_s < HOLD_SECONDS
        return self


def test_client_that_logs_in_all_the_time_hears_no_failure(flipping,
                                                           record_property):
    world, user = flipping.world, flipping.newcomer(50)
    before = world.snapshot(user, "legacy")
    visitors = [Visitor(world, user) for _ in range(3)]
    world.wait_account(user, copy="delta", clean=True)
    wait_until(lambda: all(v.logins > 1 for v in visitors), 60)
    final = flipping.hold(user)
    time.sleep(1)  # so long the last delta lasts
    final.release()
    flipping.await_moved(user)
    count = [v.logins for v in visitors]
    wait_until(lambda: all(v.logins > n + 3 for v, n in zip(visitors, count)),
               60)
    for visitor in visitors:
        visitor.stop()
    slowest_s = max(v.slowest_s for v in visitors)
    record_property("slowest_login_s", slowest_s)
    print(f"logins={sum(v.logins for v in visitors)} "
          f"cut={sum(v.cut for v in visitors)} slowest_s={slowest_s:.3f}")
    flipping.check_same(before, user)


def test_manual_waits_for_the_operator_and_auto_does_not(flipping):
    """Last here: it changes the domain."""
    world, user = flipping.world, flipping.copied()
    wait_until(lambda: len(flipping.logged(user, "flip=not_wanted")) >= 3, 60)
    assert world.account(user)["route"] == "legacy"
    assert not flipping.logged(user, " hold ")
    flipping.set_domain("--cutover", "auto")
    flipping.await_moved(user)
    other = flipping.newcomer()
    world.move(other)  # by one login
    with world.imap(other) as imap:
        assert len(find_serials(imap)) == 5
