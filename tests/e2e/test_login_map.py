"""Names beside the address: technical ones, those without a domain, several of
one mailbox. All of them are the account of the address."""

import subprocess
import threading

import pytest

from lib.old_domains import imap_answer, is_refusal
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 8, "delta_seconds": 1}
OTHER = "other.test"


def technical_user(world, user, name):
    """One more name on legacy for a mailbox that is there."""
    home = world.legacy_dovecot.folder / "mail" / world.address(user)
    with open(world.legacy_dovecot.folder / "users", "a") as f:
        f.write(f"{name}:{{PLAIN}}{world.password(user)}::::{home}::\n")
    # Dovecot looks at the file once a second at most
    test = ["doveadm", "-c", str(world.legacy_dovecot.conf), "auth", "test",
            name, world.password(user)]
    wait_until(lambda: subprocess.run(test, capture_output=True)
               .returncode == 0)


def imap_as(world, name, password):
    imap = world.imap_connect()
    # a backslash in a quoted string of IMAP
    imap.login(imap._quote(name), password)
    return imap


def subject(imap):
    assert imap.select("INBOX", readonly=True)[0] == "OK"
    return imap.fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0][1]


def pop3_subject(world, name, password):
    import poplib
    pop = poplib.POP3("localhost", world.own["pop3"], timeout=30)
    pop.user(name)
    pop.pass_(password)
    lines = pop.top(1, 0)[1]
    pop.quit()
    return b"\n".join(lines)


def put(world, user, text):
    with world.imap(user, "legacy") as imap:
        imap.append("INBOX", "", None,
                    f"Subject: {text}\r\n\r\nx\r\n".encode())


def names(world, *args):
    return world.mailhaul("name", *args)


def flip(world, user):
    world.wait_account(user, copy="delta", clean=True)
    world.mailhaul("cutover", world.address(user))
    world.wait_account(user, route="local", provisioned=True)


def accounts(world):
    return {a["address"]
            for a in world.mailhaul("account", "list")["accounts"]}


def test_names_of_one_mailbox_before_and_after_its_flip(shared_world):
    world, user = shared_world, "user001"
    address, password = world.address(user), world.password(user)
    put(world, user, "mine")
    technical_user(world, user, "t4711")
    tried = ["T4711", "EXAMPLE\\user1", "user1%example", "u1@old.test"]
    names(world, "add", "t4711", address, "--legacy-user", "t4711")
    names(world, "add", "EXAMPLE\\User1", address)
    names(world, "add", "user1%example", address.upper())
    names(world, "add", "u1@old.test", address)
    # a first login by a technical name makes the account of the address
    assert b"mine" in subject(imap_as(world, "T4711", password))
    row = world.wait_account(user, copy="delta")
    assert row["legacy_user"] == "t4711"
    assert sorted(row["names"]) == sorted(
        ["t4711", "example\\user1", "user1%example", "u1@old.test"])
    assert not {a for a in accounts(world) if "4711" in a or "old" in a}
    for name in tried + [address]:
        assert b"mine" in subject(imap_as(world, name, password)), name
        assert b"mine" in pop3_subject(world, name, password), name
    flip(world, user)
    for name in tried + [address]:
        assert b"mine" in subject(imap_as(world, name, password)), name
        assert b"mine" in pop3_subject(world, name, password), name
    wait_until(lambda: [
        x for x in world.node.log.read_text(errors="replace").splitlines()
        if 'user="u1@old.test"' in x and f'address="{address}"' in x])
    assert is_refusal(imap_answer(world, "t4711", "wrong")[0])


def test_mail_does_not_go_by_login_names(shared_world):
    world, user = shared_world, "user002"
    names(world, "add", f"nick@{world.settings.domain}", world.address(user))
    world.imap(user).logout()
    world.wait_account(user, copy="delta", clean=True)
    with pytest.raises(Exception, match="550|Recipient"):
        world.send("nick")


def test_two_names_at_once_make_one_account(shared_world):
    world, user = shared_world, "user003"
    address, password = world.address(user), world.password(user)
    names(world, "add", "third", address)
    names(world, "add", "dritter", address)
    put(world, user, "third")
    seen = []

    def log_in(name):
        seen.append(b"third" in subject(imap_as(world, name, password)))

    threads = [threading.Thread(target=log_in, args=(n,))
               for n in ("third", "dritter", address, "third")]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert seen == [True] * 4
    assert [a for a in accounts(world) if "third" in a or "drit" in a] == []
    assert address in accounts(world)
    flip(world, user)


def test_names_without_domain_where_several_are_served(shared_world):
    world, user = shared_world, "user004"
    address, password = world.address(user), world.password(user)
    put(world, user, "fourth")
    world.mailhaul("domain", "add", OTHER, "--imap",
                   f"imap://localhost:{world.legacy['imap']}", "--disabled")
    assert is_refusal(imap_answer(world, user, password)[0])
    names(world, "add", user, address)
    assert b"fourth" in subject(imap_as(world, user, password))
    world.wait_account(user, copy="delta")
    listed = names(world, "list", "--domain", world.settings.domain)["names"]
    assert user in {n["name"] for n in listed}
    assert names(world, "list", "--domain", OTHER)["names"] == []
    names(world, "remove", user)
    assert is_refusal(imap_answer(world, user, password)[0])
    events = [e["event"] for e in world.mailhaul("audit", address)["entries"]]
    assert "name add" in events and "name remove" in events


def test_what_cannot_be_a_name(shared_world):
    world = shared_world
    address = world.address("user005")
    world.imap("user006").logout()
    wait_until(lambda: world.account("user006"))
    names(world, "add", "fifth", address)
    for bad in ((world.address("user006"), address),  # an account
                (address, address), ("", address), ("a\nb", address),
                ("x" * 400, address),
                ("fifth", world.address("user006")),  # somebody else's
                ("sixth", "nobody@unserved.test"), ("seventh", "fifth")):
        done = world.mailhaul("name", "add", *bad, check=False)
        assert done.returncode != 0, bad
    for command in (("name", "remove", "nobody"),
                    ("name", "add", "eighth", address, "--legacy-user", "")):
        assert world.mailhaul(*command, check=False).returncode != 0
