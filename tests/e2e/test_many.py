"""A whole domain at nine in the morning: hundreds of users log in for the
first time at once, and all of them end up in the right mailbox."""

import concurrent.futures
import os
import pwd
import threading

from lib.snapshot import differences
from lib.waiting import wait_until

USERS = 200
WORLD = {"cutover": "auto", "delta_seconds": 2, "more_users": USERS,
         "trail_inbox_seconds": 300, "trail_seconds": 600}


def write_mail(world, user, number):
    """A small mailbox, unlike any other, as files of legacy's Maildir."""
    owner = pwd.getpwnam(world.settings.owner)
    home = world.legacy_dovecot.folder / "mail" / world.address(user)
    made = [home, home / "Maildir"]
    for folder, count in (("", 3 + number % 4), (".Sent", 1 + number % 3)):
        place = home / "Maildir" / folder
        made += [place] + [place / name for name in ("cur", "new", "tmp")]
        for n in range(count):
            made.append(place / "cur" / f"{1500000000 + n}.M{n}.old:2,S")
    for path in made:
        if ":2," in path.name:
            path.write_text(f"Subject: {path.name} of {user}\r\n\r\n"
                            f"{user} {number * len(path.name)}\r\n")
        else:
            path.mkdir(exist_ok=True)
        os.chown(path, owner.pw_uid, owner.pw_gid)


def log_in(world, user, number):
    """Over IMAP or POP3; what the user found in the INBOX."""
    if number % 3 == 0:
        pop = world.pop3(user)
        found = pop.stat()[0]
        pop.quit()
        return found
    imap = world.imap(user, tls="starttls" if number % 10 == 1 else "none")
    found = int(imap.select("INBOX", readonly=True)[1][0])
    imap.logout()
    return found


def all_at_once(world, users):
    """{user: number of messages seen, or what went wrong}"""
    start = threading.Barrier(len(users))
    result = {}

    def one(number, user):
        start.wait()
        try:
            result[user] = log_in(world, user, number)
        except Exception as trouble:  # compared by the test
            result[user] = f"{type(trouble).__name__}: {trouble}"
    threads = [threading.Thread(target=one, args=(n, user))
               for n, user in enumerate(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a login hangs"
    return result


def accounts(world):
    rows = world.mailhaul("account", "list", "--domain",
                          world.settings.domain)
    rows = rows if isinstance(rows, list) else rows["accounts"]
    return {row["address"]: row for row in rows}


def snapshots(world, users, side):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return dict(zip(users, pool.map(
            lambda user: world.snapshot(user, side), users)))


def test_two_hundred_first_logins_at_once(world):
    users = [f"user{n:03}" for n in range(1, USERS + 1)]
    for n, user in enumerate(users):
        write_mail(world, user, n)
    before = snapshots(world, users, "legacy")
    there = {user: 3 + n % 4 for n, user in enumerate(users)}
    assert all_at_once(world, users) == there
    # a POP3 login is proven over IMAP beside its session
    addresses = {world.address(user) for user in users}
    wait_until(lambda: accounts(world).keys() == addresses, 30, 0.2,
               lambda: sorted(addresses ^ accounts(world).keys()))
    wait_until(lambda: all(row["route"] == "local"
                           for row in accounts(world).values()), 180, 0.5,
               lambda: [(r["address"], r["route"], r["copy"], r["last_error"])
                        for r in accounts(world).values()
                        if r["route"] != "local"][:5])
    assert all_at_once(world, users) == there
    after = snapshots(world, users, "local")
    assert {user: differences(before[user], after[user])
            for user in users} == dict.fromkeys(users, [])
    assert len(accounts(world)) == USERS
