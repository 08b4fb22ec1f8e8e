"""Port 25 while something is down, stalled, full, killed or renewed: every
message once for each recipient, and nobody waits for another's troubles."""

import os
import random
import signal
import time

import pytest

from dialog.smtp_stage import Client, Hop
from fakes.gate import Gate
from lib.delivered import copies, raw_message
from lib.flipping import Background, message
from lib.mailbox import expunge
from lib.old_domains import serve
from lib.senders import Sender
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 10, "trail_inbox_seconds": 300,
         "trail_seconds": 600, "local_conf": """
mail_plugins = $mail_plugins quota
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=20M
}
"""}
SENDER = "x@sender.test"
LOCAL = ("alice", "carol", "erin")


@pytest.fixture(scope="module")
def homes(gated_world):
    """alice, carol and erin live on local; erin's mailbox is full."""
    world = gated_world.world
    with world.imap("erin", "legacy") as imap:
        for n in range(5):
            imap.append("INBOX", "", None,
                        message(f"old{n}", ("x" * 70 + "\r\n") * 60_000))
    for user in LOCAL:
        world.imap(user).logout()
    for user in LOCAL:
        world.wait_account(user, copy="delta", clean=True)
        world.mailhaul("cutover", world.address(user))
    for user in LOCAL:
        world.wait_account(user, route="local", provisioned=True)
    return world


@pytest.fixture
def client(homes):
    made = Client(homes.own["smtp"])
    made.socket.settimeout(60)
    yield made
    made.close()


@pytest.fixture
def others(homes):
    """A second old server, with other.test."""
    hop = Hop()
    serve(homes, "other.test")
    homes.mailhaul("domain", "set", "other.test", "--smtp", hop.url)
    yield hop
    homes.mailhaul("domain", "remove", "other.test")
    hop.close()


def side_of(user):
    return "local" if user in LOCAL else "legacy"


def new_serial(name):
    return f"{name}-{time.monotonic_ns()}"


def await_one(world, user, serial):
    found = wait_until(lambda: copies(world, user, side_of(user)).get(serial),
                       60, 0.2, f"{serial} for {user}")
    assert found == 1, (user, serial, found)


def deliver(world, rcpt, serial):
    """(answer to RCPT, answer to DATA or the dot)"""
    c = Client(world.own["smtp"])
    try:
        said, end = c.deliver(SENDER, [rcpt], message(serial).decode())
        return said[0], end
    finally:
        c.close()


def await_accepted(world, user, serial):
    """Repeat as a sending server does."""
    wait_until(lambda: deliver(world, world.address(user), serial)[1][:3]
               == "250", 60, 0.3, f"250 for {user}")


def check_others_are_served(world, others):
    serial = new_serial("beside")
    assert deliver(world, "alice@example.test", serial)[1][:3] == "250"
    count = others.copies("a@other.test")
    assert deliver(world, "a@other.test", serial)[1][:3] == "250"
    assert others.copies("a@other.test") == count + 1
    await_one(world, "alice", serial)


# ---- a side down or stalled

def test_legacy_down_is_temporary_and_delays_nobody_else(homes, others,
                                                          flipping):
    homes.stop("legacy-postfix")
    serial = new_serial("down")
    try:
        said, end = deliver(homes, "bob@example.test", serial)
        assert said[0] == "4" and end[0] == "5", (said, end)
        check_others_are_served(homes, others)
    finally:
        homes.start("legacy-postfix")
        homes.wait_ready("legacy-postfix")
    await_accepted(homes, "bob", serial)
    await_one(homes, "bob", serial)


def stall(world, name):
    pids = world.family(name)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def go_on(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def test_legacy_stalled_delays_nobody_else(homes, others):
    """Many wait for it, and many are served meanwhile."""
    waiting = [(new_serial(f"stalled{n}"), Client(homes.own["smtp"]))
               for n in range(40)]
    pids = stall(homes, "legacy-postfix")
    try:
        for _, c in waiting:
            c.send("MAIL FROM:<x@sender.test>\r\n"
                   "RCPT TO:<bob@example.test>\r\n")
        for _ in range(5):
            check_others_are_served(homes, others)
        for _, c in waiting:
            c.socket.settimeout(0.01)
            assert c.reply()[:3] == "250"  # MAIL
            with pytest.raises(TimeoutError):
                c.socket.recv(1)
            c.socket.settimeout(60)
    finally:
        go_on(pids)
    for serial, c in waiting:
        c.stream = c.socket.makefile("rb")
        assert c.reply()[:3] == "250"  # RCPT
        assert c.cmd("DATA")[:3] == "354"
        c.send(message(serial) + b".\r\n")
        assert c.reply()[:3] == "250"
        c.close()
    for serial, _ in waiting[::13]:
        await_one(homes, "bob", serial)


def test_lmtp_down_or_stalled_delays_no_one_on_legacy(homes, others):
    serial = new_serial("lmtp")
    homes.stop("local-dovecot")
    try:
        said, _ = deliver(homes, "carol@example.test", serial)
        assert said[0] == "4", said
        for _ in range(3):
            beside = new_serial("beside")
            assert deliver(homes, "bob@example.test", beside)[1][:3] == "250"
            assert deliver(homes, "a@other.test", beside)[1][:3] == "250"
    finally:
        homes.start("local-dovecot")
        homes.wait_ready("local-dovecot")
    await_accepted(homes, "carol", serial)
    pids = stall(homes, "local-dovecot")
    stalled = new_serial("lmtp")
    try:
        waits = Background(deliver, homes, "carol@example.test", stalled)
        for _ in range(3):
            beside = new_serial("beside")
            assert deliver(homes, "bob@example.test", beside)[1][:3] == "250"
            assert deliver(homes, "a@other.test", beside)[1][:3] == "250"
        assert waits.is_alive()
    finally:
        go_on(pids)
    assert waits.result()[1][:3] == "250"
    for one in (serial, stalled):
        await_one(homes, "carol", one)


# ---- mixed verdicts

def test_a_full_mailbox_beside_another_is_repeated_for_itself_alone(homes,
                                                                     client):
    serial = new_serial("quota")
    rcpts = ["alice@example.test", "erin@example.test", "carol@example.test"]
    raw = message(serial).decode()
    said, end = client.deliver(SENDER, rcpts, raw)
    assert {s[:3] for s in said} == {"250"} and end[:3] == "451", (said, end)
    # still full: what there is to say of the rest is local's own word
    said, end = client.deliver(SENDER, rcpts, raw)
    assert end[:3] in ("452", "552") and "uota" in end, end
    with homes.imap("erin", "local") as imap:
        imap.select("INBOX")
        uids = imap.uid("SEARCH", "ALL")[1][0].split()[:1]
        imap.unselect()
        expunge(imap, "INBOX", [int(u) for u in uids])
    said, end = client.deliver(SENDER, rcpts, raw)
    assert end[:3] == "250", end
    assert client.cmd("NOOP")[:3] == "250"
    for user in ("alice", "erin", "carol"):
        await_one(homes, user, serial)


# ---- TLS towards the hops

def reconfigure(world, old, new):
    text = world.node.conf.read_text()
    assert old in text
    world.node.conf.write_text(text.replace(old, new))
    renew(world)


def renew(world):
    """SIGHUP; until a new smtp process serves."""
    before = set(world.pids("smtp"))
    world.records.send("mailhauld", signal.SIGHUP)
    wait_until(lambda: set(world.pids("smtp")) - before, 30)


def in_clear(gate):
    """What all clients of the gate said before TLS."""
    return b"".join(bytes(c.heard).partition(b"STARTTLS\r\n")[0]
                    for c in gate.all)


@pytest.mark.parametrize("host, is_good", [("127.0.0.1", True),
                                           ("127.0.0.2", False)])
def test_legacys_certificate_is_verified(homes, flipping, host, is_good):
    """The certificate says 127.0.0.1."""
    gate = Gate(homes.legacy["smtp"], host)
    flipping.set_domain("--smtp", f"smtp+starttls://{host}:{gate.port}")
    serial = new_serial("tls")
    try:
        said, end = deliver(homes, "bob@example.test", serial)
    finally:
        flipping.set_domain("--smtp", f"smtp://127.0.0.1:{flipping.smtp.port}")
        gate.close()
    heard = in_clear(gate)
    assert heard.count(b"EHLO ") >= 1 and b"MAIL" not in heard
    assert all(b"STARTTLS\r\n" in c.heard for c in gate.all)
    assert (said[:3] == "250" and end[:3] == "250") if is_good else \
        said[:3] == "451", (said, end)
    if is_good:
        await_one(homes, "bob", serial)
        assert b"ESMTPS" in raw_message(homes, "bob", "legacy", serial)
        return
    assert serial not in copies(homes, "bob", "legacy")
    assert "certificate" in homes.log_tail()


def test_a_hop_that_withdraws_starttls_is_told_nothing(homes, others):
    homes.mailhaul("domain", "set", "other.test", "--smtp",
                   f"smtp+starttls://127.0.0.1:{others.port}")
    said, _ = deliver(homes, "a@other.test", new_serial("strip"))
    assert said[:3] == "451"
    assert [x[:4] for x in others.lines if x] == ["EHLO"]


@pytest.mark.parametrize("host, is_good", [("127.0.0.1", True),
                                           ("127.0.0.2", False)])
def test_locals_certificate_is_verified(homes, host, is_good):
    gate = Gate(homes.local["lmtp"], host)
    plain = f"lmtp://127.0.0.1:{homes.local['lmtp']}"
    over_tls = f"lmtp+starttls://{host}:{gate.port}"
    serial = new_serial("lmtps")
    reconfigure(homes, plain, over_tls)
    try:
        said, end = deliver(homes, "alice@example.test", serial)
    finally:
        reconfigure(homes, over_tls, plain)
        gate.close()
    heard = in_clear(gate)
    assert b"LHLO" in heard and b"MAIL" not in heard
    if is_good:
        assert (said[:3], end[:3]) == ("250", "250"), (said, end)
        await_one(homes, "alice", serial)
    else:
        assert said[:3] == "451", said
        assert serial not in copies(homes, "alice", "local")


# ---- a new generation

def senders(homes, **how):
    made = [Sender(f"{user}{new_serial('s')}", homes.own["smtp"], SENDER,
                   homes.address(user), 0.02, **how)
            for user in ("alice", "bob", "carol", "dave")]
    for sender in made:
        sender.start()
    return made


def check_all_once(homes, made, permitted=frozenset()):
    """Nothing lost; nothing doubled but what is permitted."""
    doubled = set()
    for sender in made:
        user = sender.recipient.partition("@")[0]
        assert sender.refused == {}, sender.refused
        wait_until(lambda: copies(homes, user, side_of(user)).keys() >=
                   set(sender.accepted), 60, 0.5, f"all for {user}")
        found = copies(homes, user, side_of(user))
        doubled |= {s for s in sender.accepted if found[s] > 1}
    assert doubled <= set(permitted), doubled - set(permitted)
    return doubled


def test_sighup_while_mail_flows_loses_and_doubles_nothing(homes):
    made = senders(homes)
    for _ in range(4):
        goal = [len(s.accepted) + 5 for s in made]
        wait_until(lambda: all(len(s.accepted) >= n
                               for s, n in zip(made, goal)), 60)
        renew(homes)
    for sender in made:
        sender.stop()
        assert not sender.unsure, "a draining process cut a message off"
    check_all_once(homes, made)
    wait_until(lambda: len(homes.pids("smtp")) == 1, 30)


def test_a_repetition_is_known_to_the_next_generation(homes, flipping):
    """The old one hears the verdict when the new one is up already."""
    serial, address = new_serial("over"), "bob@example.test"
    stop = flipping.smtp.stop(rb"^250 2\.0\.0 Ok: queued", address, "answer")
    c = Client(homes.own["smtp"])
    for line in ("MAIL FROM:<x@sender.test>", f"RCPT TO:<{address}>", "DATA"):
        assert c.cmd(line)[0] in "23"
    raw = message(serial)
    c.send(raw + b".\r\n")
    stop.wait()
    c.close()
    renew(homes)
    assert len(homes.pids("smtp")) == 2
    stop.release()
    wait_until(lambda: len(homes.pids("smtp")) == 1, 30)
    assert deliver_raw(homes, address, raw) == "250 2.0.0 Delivered before"
    await_one(homes, "bob", serial)


def test_a_message_in_doubt_in_the_old_generation_has_to_wait(homes,
                                                              flipping):
    """Repeated to the new one while the old one waits for legacy's verdict."""
    serial, address = new_serial("doubt"), "dave@example.test"
    stop = flipping.smtp.stop(rb"^250 2\.0\.0 Ok: queued", address, "answer")
    c = Client(homes.own["smtp"])
    raw = message(serial)
    for line in ("MAIL FROM:<x@sender.test>", f"RCPT TO:<{address}>", "DATA"):
        assert c.cmd(line)[0] in "23"
    c.send(raw + b".\r\n")
    stop.wait()
    c.close()
    renew(homes)
    assert deliver_raw(homes, address, raw)[:9] == "451 4.3.0"
    stop.release()
    wait_until(lambda: len(homes.pids("smtp")) == 1, 30)
    assert deliver_raw(homes, address, raw) == "250 2.0.0 Delivered before"
    await_one(homes, "dave", serial)


def deliver_raw(world, rcpt, raw):
    again = Client(world.own["smtp"])
    try:
        return again.deliver(SENDER, [rcpt], raw.decode()[:-2])[1]
    finally:
        again.close()


# ---- the flip

def test_a_crowd_of_senders_at_the_moment_of_the_flip(homes, flipping):
    """What legacy took is carried over, what came later waited for local."""
    user = flipping.copied()
    made = [Sender(f"crowd{n}{new_serial('')}", homes.own["smtp"], SENDER,
                   homes.address(user), 0) for n in range(6)]
    for sender in made:
        sender.start()
    wait_until(lambda: all(len(s.accepted) > 2 for s in made), 60)
    flipping.cutover(user)
    flipping.await_moved(user)
    goal = [len(s.accepted) + 3 for s in made]
    wait_until(lambda: all(len(s.accepted) >= n
                           for s, n in zip(made, goal)), 60)
    wanted = set()
    for sender in made:
        sender.stop()
        assert sender.refused == {} and not sender.unsure
        wanted |= set(sender.accepted)
    wait_until(lambda: copies(homes, user, "local").keys() >= wanted, 60, 0.5)
    found = copies(homes, user, "local")
    assert {s: n for s, n in found.items() if s in wanted and n != 1} == {}


# ---- kill -9

def test_kills_lose_nothing_and_double_only_what_was_in_doubt(homes):
    random.seed(7)
    made = senders(homes)
    for _ in range(5):
        time.sleep(random.uniform(0.1, 0.5))
        homes.kill("smtp")
        wait_until(lambda: homes.pids("smtp"), 30)
    goal = [len(s.accepted) + 3 for s in made]
    wait_until(lambda: all(len(s.accepted) >= n
                           for s, n in zip(made, goal)), 60)
    for sender in made:
        sender.stop()
    check_all_once(homes, made, {u for s in made for u in s.unsure})
