"""Locking an account ends what it has open, within a second."""

import socket
import threading
import time

import pytest

from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 8, "trail_inbox_seconds": 300,
         "trail_seconds": 600, "delta_seconds": 1}
SOON_S = 1 + 3  # a second is promised, the machine may be slow


def lock(world, user, *what):
    """Lock it; when the command had answered."""
    world.mailhaul("account", "lock", world.address(user), *what)
    return time.monotonic()


def last_words(sock):
    """All that comes until the end, and when that was."""
    sock.settimeout(30)
    said = b""
    try:
        while piece := sock.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    return said, time.monotonic()


def check_ended(sock, locked_at, word):
    said, ended_at = last_words(sock)
    assert word in said if word else said == b""
    assert ended_at - locked_at < SOON_S


def moved(world, user):
    world.imap(user).logout()
    world.wait_account(user, copy="delta", clean=True)
    world.mailhaul("cutover", world.address(user))
    world.wait_account(user, route="local", provisioned=True)


def put_mail(world, user, side, count=3):
    with world.imap(user, side) as imap:
        for n in range(count):
            imap.append("INBOX", "", None, f"Subject: {n}\r\n\r\nx\r\n".encode())


def count_mail(world, user, side="local"):
    with world.imap(user, side) as imap:
        return int(imap.select("INBOX", readonly=True)[1][0])


def test_sessions_on_local_end(shared_world):
    world, user, other = shared_world, "user001", "user002"
    for name in (user, other):
        moved(world, name)
    put_mail(world, user, "local")
    imaps = [world.imap(user) for _ in range(4)]  # in whichever process
    imaps[0].select("INBOX")
    imaps[1].send(b"x IDLE\r\n")
    pop = world.pop3(user)
    pop.dele(1)
    stays = world.imap(other)
    locked_at = lock(world, user, "--login")
    for imap in imaps:
        check_ended(imap.sock, locked_at, b"* BYE Session ended")
    check_ended(pop.sock, locked_at, b"")
    assert stays.noop()[0] == "OK"
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        world.imap(user)
    world.mailhaul("account", "unlock", world.address(user))
    assert count_mail(world, user, "mailhaul") == 3  # its DELE was not made
    ends = [x for x in world.node.log.read_text(errors="replace").splitlines()
            if " session end " in x and " reason=kicked " in x
            and f'address="{world.address(user)}"' in x]
    assert len(ends) == 5 and all('why="locked"' in x for x in ends)


def test_sessions_on_legacy_end(shared_world):
    world, user = shared_world, "user003"
    put_mail(world, user, "legacy")
    imap = world.imap(user)
    world.wait_account(user, copy="delta", clean=True)
    pop = world.pop3(user)
    pop.dele(1)
    locked_at = lock(world, user, "--all")
    check_ended(imap.sock, locked_at, b"* BYE Session ended")
    check_ended(pop.sock, locked_at, b"")
    assert count_mail(world, user, "legacy") == 3
    world.mailhaul("account", "unlock", world.address(user))
    world.imap(user).logout()


def test_who_was_let_through_before_there_was_an_account_is_found(
        shared_world):
    world, user = shared_world, "user004"
    domain = world.settings.domain
    world.mailhaul("domain", "disable", domain)
    through = world.imap(user)
    assert world.account(user) is None
    world.mailhaul("domain", "enable", domain)
    world.imap(user).logout()
    wait_until(lambda: world.account(user), 60)
    locked_at = lock(world, user, "--login")
    check_ended(through.sock, locked_at, b"* BYE Session ended")


def test_a_lock_finds_login_processes_that_state_has_lost(shared_world):
    """They connect to a new state process when they know that the old one is
    gone; the command may be faster."""
    world, user = shared_world, "user007"
    imaps = [world.imap(user) for _ in range(4)]
    wait_until(lambda: world.account(user), 60)
    world.kill("state")
    locked_at = lock(world, user, "--login")
    for imap in imaps:
        check_ended(imap.sock, locked_at + 2, b"* BYE Session ended")


def test_submission_alone_ends_no_reading(shared_world):
    world, user = shared_world, "user005"
    imap = world.imap(user)
    wait_until(lambda: world.account(user), 60)
    lock(world, user, "--submission")
    time.sleep(0.5)
    assert imap.noop()[0] == "OK"


def test_a_client_that_logs_in_all_the_time_is_out_for_good(shared_world):
    """No login that began before the lock is left running behind it."""
    world, user = shared_world, "user006"
    moved(world, user)
    open_sockets, ending = [], threading.Event()

    def come_again():
        while not ending.is_set():
            try:
                imap = world.imap(user)
                open_sockets.append(imap.sock)
            except Exception:
                time.sleep(0.05)
    clients = [threading.Thread(target=come_again) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        wait_until(lambda: len(open_sockets) > 10, 60)
        locked_at = lock(world, user, "--login")
        time.sleep(SOON_S)
    finally:
        ending.set()
        for client in clients:
            client.join(60)
    for sock in open_sockets:
        sock.setblocking(False)
        try:
            while sock.recv(65536):
                pass
        except BlockingIOError:
            pytest.fail("a session is open after the lock")
        except (ConnectionResetError, socket.error):
            pass
    assert locked_at
