"""Port 25 before real servers: each recipient to his own side, the bytes as
they came, and nothing of one side's troubles on the other."""

import os
import re
import time

import pytest

from dialog.smtp_stage import Client, Hop
from lib.delivered import copies, raw_message
from lib.flipping import message
from lib.old_domains import serve
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 20, "trail_inbox_seconds": 300,
         "trail_seconds": 600}
PEOPLE = ("alice", "bob", "carol", "dave")
LOCAL = ("alice", "carol")
SENDER = "x@sender.test"


@pytest.fixture(scope="module")
def homes(gated_world):
    """alice and carol live on local, erin is copied but on legacy still, and
    of bob and dave mailhaul has never heard."""
    world = gated_world.world
    for user in (*LOCAL, "erin"):
        world.imap(user).logout()
    for user in LOCAL:
        world.wait_account(user, copy="delta", clean=True)
        world.mailhaul("cutover", world.address(user))
    for user in LOCAL:
        world.wait_account(user, route="local", provisioned=True)
    world.wait_account("erin", copy="delta", clean=True)
    return world


@pytest.fixture
def client(homes):
    made = Client(homes.own["smtp"])
    yield made
    made.close()


def side_of(user):
    return "local" if user in LOCAL else "legacy"


def new_serial(name):
    return f"{name}-{time.monotonic_ns()}"


def await_one(world, user, serial, side=None):
    """Until the reader finds it; there once, and not on the other side."""
    side = side or side_of(user)
    found = wait_until(lambda: copies(world, user, side).get(serial), 60, 0.2,
                       f"{serial} for {user} on {side}")
    assert found == 1, (user, serial, found)
    if user in LOCAL:
        other = "legacy" if side == "local" else "local"
        assert serial not in copies(world, user, other)


# ---- the side of a recipient

SPELLINGS = ["{}@example.test", "{}+shop@example.test", "{}@EXAMPLE.Test"]


@pytest.mark.parametrize("sender", [SENDER, ""])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("user", ["alice", "bob", "erin"])
def test_each_spelling_and_sender_reaches_the_side_of_the_user(
        homes, client, user, spelling, sender):
    serial = new_serial("side")
    said, end = client.deliver(sender, [spelling.format(user)],
                               message(serial).decode())
    assert said[0][:3] == "250" and end[:3] == "250", (said, end)
    await_one(homes, user, serial)
    raw = raw_message(homes, user, side_of(user), serial)
    assert f"Return-Path: <{sender}>".encode() in raw


def test_an_alias_is_legacys_business(homes, client):
    serial = new_serial("alias")
    end = client.deliver(SENDER, ["team@example.test"],
                         message(serial).decode())[1]
    assert end[:3] == "250"
    await_one(homes, "bob", serial)
    wait_until(lambda: copies(homes, "alice", "legacy").get(serial) == 1)


def test_refusals_of_legacy_are_passed_through_word_by_word(homes, client):
    own = Client(homes.legacy["smtp"])
    for c in (own, client):
        c.cmd("MAIL FROM:<x@sender.test>")
    theirs = own.cmd("RCPT TO:<nobody@example.test>")
    assert theirs[:3] == "550"
    assert client.cmd("RCPT TO:<nobody@example.test>") == theirs
    own.close()


def test_who_is_not_served_is_refused_whatever_the_side(client):
    client.cmd("MAIL FROM:<x@sender.test>")
    for rcpt in ("x@elsewhere.test", "alice@elsewhere.test",
                 "x@example.test.evil"):
        assert client.cmd(f"RCPT TO:<{rcpt}>")[:9] == "550 5.7.1", rcpt
        assert client.cmd("RCPT TO:<alice@example.test>")[:3] == "250"


def test_the_trace_tells_how_the_client_came(homes):
    for tls, word in ((False, b"ESMTP"), (True, b"ESMTPS")):
        serial = new_serial("trace")
        with homes.smtp(tls=tls) as smtp:
            smtp.sendmail(SENDER, ["alice@example.test"], message(serial))
        await_one(homes, "alice", serial)
        raw = raw_message(homes, "alice", "local", serial)
        assert re.search(rb"Received: from sender.test \(\[127.0.0.1\]\)\r\n"
                         rb"\tby mx.example.test with %b id " % word, raw), raw


# ---- recipients on both sides

def test_who_repeats_at_once_delivers_to_both_sides_once(homes, client):
    """As Exim does: what got 452 in a second transaction, same session."""
    serial = new_serial("exim")
    left, rounds = [homes.address(u) for u in PEOPLE], 0
    while left:
        rounds += 1
        said, end = client.deliver(SENDER, left, message(serial).decode())
        assert end[:3] == "250"
        assert {s[:3] for s in said} <= {"250", "452"}
        left = [r for r, s in zip(left, said) if s[:3] == "452"]
    assert rounds == 2
    for user in PEOPLE:
        await_one(homes, user, serial)


def still_open(world, sender):
    """Journal records of a sender that wait for the client to know."""
    rows = [row.split() for row in
            (world.folder / "state/smtp/journal").read_text().splitlines()]
    return {tuple(r[2:5]) for r in rows if r[0] == "taken" and
            r[3] == sender} - {tuple(r[2:5]) for r in rows if r[0] == "told"}


def test_postfix_as_the_sender_converges_to_one_copy_each(homes):
    """It delivers those accepted, and comes again for the others. That it has
    read the last answer is known, though it sends QUIT with the dot."""
    queue = homes.servers["local-postfix"]
    serials = [new_serial(f"postfix{n}") for n in range(5)]
    with homes.smtp("local") as smtp:
        for serial in serials:
            smtp.sendmail("postfix@sender.test",
                          [homes.address(u) for u in PEOPLE], message(serial))
    wait_until(lambda: queue.queue_length() == 0, 60, 0.3, "Postfix's queue")
    for user in PEOPLE:
        for serial in serials:
            await_one(homes, user, serial)
    wait_until(lambda: not still_open(homes, "postfix@sender.test"))


# ---- one packet

def test_one_packet_is_answered_in_order(homes, client):
    serial = new_serial("packet")
    client.send("RSET\r\nMAIL FROM:<x@sender.test>\r\n"
                "RCPT TO:<bob@example.test>\r\nRCPT TO:<alice@example.test>\r\n"
                "RCPT TO:<nobody@example.test>\r\nRCPT TO:<x@else.test>\r\n"
                "RCPT TO:<dave@example.test>\r\nDATA\r\n")
    codes = [client.reply()[:3] for _ in range(8)]
    assert codes == ["250", "250", "250", "452", "550", "550", "250", "354"]
    # and the next message behind the dot of this one
    again = new_serial("packet2")
    client.send(message(serial) + b".\r\nMAIL FROM:<x@sender.test>\r\n"
                b"RCPT TO:<alice@example.test>\r\nDATA\r\n")
    assert [client.reply()[:3] for _ in range(4)] == ["250"] * 3 + ["354"]
    client.send(message(again) + b".\r\nQUIT\r\n")
    assert [client.reply()[:3] for _ in range(2)] == ["250", "221"]
    for user in ("bob", "dave"):
        await_one(homes, user, serial)
    await_one(homes, "alice", again)


# ---- the bytes

OWN_FIELDS = re.compile(
    rb"\A(?:(?:Return-Path|Delivered-To|Received|X-Mailhaul-Hop|"
    rb"X-Original-To):[^\n]*\r\n(?:[ \t][^\n]*\r\n)*)*\Z")

# with all that a server might add where it is missing
HEAD = (b"From: <x@sender.test>\r\nTo: <y@sender.test>\r\nSubject: Gr\xfc\xdf"
        b"\r\nDate: Sun, 1 Mar 2026 00:00:00 +0000\r\nMessage-ID: <%b@s.test>"
        b"\r\nX-Folded: a\r\n\tb\r\nX-Serial: %b\r\n\r\n")

BODIES = {
    "dots": b".\r\n..\r\n...\r\n.x\r\n\r\n. \r\n.",
    "8-bit": bytes(range(128, 256)) * 3 + b"\r\n" + "Grüße, 你好".encode(),
    "controls": bytes(b for b in range(1, 32) if b not in b"\r\n") + b"\x7f",
    "998": b"a" * 998 + b"\r\n" + b"." * 997,
    "empty lines": b"\r\n\r\n\r\n",
    "nothing": b"",
}
LONG = {
    "5 kB line": b"b" * 5000 + b"\r\n." + b"c" * 70000,
    "1 MB line": b"." + b"d" * 1_000_000,
}


def send_raw(client, rcpt, raw):
    """With the dots that RFC 5321 4.5.2 adds; the answer to the dot."""
    for line in ("MAIL FROM:<x@sender.test> BODY=8BITMIME", f"RCPT TO:<{rcpt}>",
                 "DATA"):
        assert client.cmd(line)[0] in "23"
    client.send(re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n")
    return client.reply()


@pytest.mark.parametrize("user, body", [
    *(("alice", name) for name in {**BODIES, **LONG}),
    *(("bob", name) for name in BODIES)])  # Postfix folds long lines itself
def test_the_bytes_arrive_as_they_were_sent(homes, client, user, body):
    serial = new_serial("bytes")
    raw = (HEAD % ((serial.encode(),) * 2) + {**BODIES, **LONG}[body] + b"\r\n")
    assert send_raw(client, homes.address(user), raw)[:3] == "250"
    await_one(homes, user, serial)
    got = raw_message(homes, user, side_of(user), serial)
    assert got.endswith(raw), (got[-300:], raw[-300:])
    assert OWN_FIELDS.match(got[:-len(raw)]), got[:-len(raw)]
    assert got.count(b"X-Mailhaul-Hop: mx.example.test\r\n") == 1


ENDINGS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r",
           b"\r\n\0.\r\n", b"\r\r\n.\r\r\n", b"\n\n.\r\n", b"\r\n.\r\r\n"]


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_no_other_end_of_data_smuggles_a_message(homes, user):
    pairs = []
    for ending in ENDINGS:
        outer, inner = new_serial("outer"), new_serial("inner")
        pairs.append((ending, outer, inner))
        c = Client(homes.own["smtp"])
        for line in ("MAIL FROM:<x@sender.test>",
                     f"RCPT TO:<{homes.address(user)}>", "DATA"):
            assert c.cmd(line)[0] in "23"
        c.send(b"X-Serial: %b\r\n\r\nbody" % outer.encode() + ending +
               b"MAIL FROM:<evil@sender.test>\r\nRCPT TO:<%b>\r\nDATA\r\n"
               b"X-Serial: %b\r\n\r\nevil\r\n.\r\n"
               % (homes.address(user).encode(), inner.encode()))
        assert c.reply()[:3] == "250", ending
        c.send("QUIT\r\n")
        assert c.reply()[:3] == "221", ending
        c.close()
    for ending, outer, inner in pairs:
        await_one(homes, user, outer)
        assert inner not in copies(homes, user, side_of(user)), ending


# ---- limits

def test_a_size_over_the_limit_is_refused_before_the_text(homes, client):
    limit = int(re.search(r"SIZE (\d+)", client.hello)[1])
    assert limit >= 100_000_000
    assert client.cmd(f"MAIL FROM:<> SIZE={limit + 1}")[:9] == "552 5.3.4"
    assert client.cmd(f"MAIL FROM:<> SIZE={limit}")[:3] == "250"
    assert client.cmd("RCPT TO:<alice@example.test>")[:3] == "250"


def test_the_size_that_legacy_takes_is_legacys_word(homes, client):
    fake = Hop(mail="552 5.3.4 Ours are 1 MB at most")
    serve_mail(homes, "small.test", fake)
    client.cmd("MAIL FROM:<x@sender.test> SIZE=2000000")
    assert client.cmd("RCPT TO:<a@small.test>") == \
        "552 5.3.4 Ours are 1 MB at most"
    assert "MAIL FROM:<x@sender.test> SIZE=2000000" in \
        " ".join(fake.lines)
    fake.close()


def serve_mail(world, domain, hop):
    serve(world, domain)
    world.mailhaul("domain", "set", domain, "--smtp", hop.url)


def peak_mb(world):
    [pid] = world.pids("smtp")
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read())[1]) / 1024


def test_100_mb_stream_through_bounded_memory(homes, flipping):
    """To both sides; to local as what might be a repetition."""
    flipping.set_domain("--smtp", f"smtp://127.0.0.1:{homes.legacy['smtp']}")
    body = ("x" * 98 + "\r\n") * 999_000

    # no QUIT after the 250: it stays open in the journal
    hasty = Client(homes.own["smtp"])
    assert hasty.deliver(SENDER, ["alice@example.test"],
                         message(new_serial("open")).decode())[1][:3] == "250"
    hasty.close()
    for user in ("alice", "bob"):
        serial = new_serial("large")
        with homes.smtp() as smtp:
            smtp.sendmail(SENDER, [homes.address(user)],
                          message(serial, body))
        raw = wait_until(lambda: raw_message(homes, user, side_of(user),
                                             serial), 60, 0.5)
        assert raw.endswith(body.encode()), user
    assert peak_mb(homes) < 40
    flipping.set_domain("--smtp", f"smtp://127.0.0.1:{flipping.smtp.port}")


@pytest.mark.parametrize("user", ["carol", "dave"])
def test_a_thousand_recipients_are_asked_and_no_more(client, user):
    client.cmd("MAIL FROM:<x@sender.test>")
    client.send("".join(f"RCPT TO:<{user}+{n}@example.test>\r\n"
                        for n in range(1001)))
    codes = [client.reply()[:3] for _ in range(1001)]
    assert set(codes[:1000]) == {"250"} and codes[1000] == "452"
    assert client.cmd("RSET")[:3] == "250"


@pytest.mark.parametrize("user", ["carol", "dave"])
def test_a_hundred_recipients_get_one_copy_each(homes, client, user):
    serial = new_serial("hundred")
    said, end = client.deliver(
        SENDER, [f"{user}+{n}@example.test" for n in range(100)],
        message(serial).decode())
    assert {s[:3] for s in said} == {"250"} and end[:3] == "250"
    wait_until(lambda: copies(homes, user, side_of(user)).get(serial) == 100,
               60, 0.5, lambda: copies(homes, user, side_of(user)).get(serial))


# ---- loops

def test_a_legacy_that_is_mailhaul_itself_is_noticed(homes, client):
    """A slip of the administrator: no mail is bounced, none goes round."""
    serve(homes, "loop.test")
    homes.mailhaul("domain", "set", "loop.test", "--smtp",
                   f"smtp://127.0.0.1:{homes.own['smtp']}")
    client.cmd("MAIL FROM:<x@sender.test>")
    said = client.cmd("RCPT TO:<a@loop.test>")
    assert said[:3] == "451", said
    with homes.smtp() as smtp:
        smtp.mail(SENDER)
        assert smtp.rcpt("alice@example.test")[0] == 250
    log = homes.node.log.read_text(errors="replace")
    assert log.count("this hop is mailhaul itself") == 1


def test_a_loop_between_legacy_and_mailhaul_ends_in_a_bounce(homes):
    """Legacy sends a user on to mailhaul, which believes him on legacy."""
    postfix = homes.servers["legacy-postfix"]
    (postfix.folder / "transport").write_text(
        f"user019@example.test smtp:[127.0.0.1]:{homes.own['smtp']}\n")
    main = postfix.folder / "etc" / "main.cf"
    old = main.read_text()
    main.write_text(old + f"transport_maps = "
                    f"texthash:{postfix.folder}/transport\n")
    homes.stop("legacy-postfix")
    homes.start("legacy-postfix")
    homes.wait_ready("legacy-postfix")
    try:
        serial = new_serial("round")
        homes.send("user019", serial=serial, sender="dave@example.test")
        wait_until(lambda: postfix.queue_length() == 0, 60, 0.3, "the bounce")
        imap = homes.imap("dave", "legacy")
        imap.select("INBOX", readonly=True)
        found = wait_until(lambda: imap.noop() and imap.search(
            None, "TEXT", "5.4.6", "TEXT", serial)[1][0].split(), 30, 0.3)
        assert len(found) == 1
        imap.logout()
        assert serial not in copies(homes, "user019", "legacy")
    finally:
        main.write_text(old)
        homes.stop("legacy-postfix")
        homes.start("legacy-postfix")
        homes.wait_ready("legacy-postfix")


# ---- those who only ask

def descriptors(world):
    [pid] = world.pids("smtp")
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_probes_leave_nothing_behind(homes):
    """MAIL and RCPT, then RSET, QUIT, a cut, or one after the other."""
    before = descriptors(homes)
    counts = {u: sum(copies(homes, u, side_of(u)).values()) for u in PEOPLE}
    for n in range(60):
        c = Client(homes.own["smtp"])
        for user in PEOPLE if n % 2 else PEOPLE[n % 4:n % 4 + 1]:
            assert c.cmd("MAIL FROM:<>")[:3] == "250"
            assert c.cmd(f"RCPT TO:<{user}@example.test>")[:3] == "250"
            if n % 3 != 1 or n % 2:
                assert c.cmd("RSET")[:3] == "250"
        if n % 3 == 0:
            assert c.cmd("QUIT")[:3] == "221"
        c.close()
    wait_until(lambda: descriptors(homes) <= before, 30, 0.1,
               lambda: (before, descriptors(homes)))
    assert homes.servers["legacy-postfix"].queue_length() == 0
    for user, count in counts.items():
        assert sum(copies(homes, user, side_of(user)).values()) == count


def test_sessions_with_many_messages_keep_their_order(homes):
    """To both sides in turn in one session, the hops kept or changed."""
    c = Client(homes.own["smtp"])
    sent = []
    for n in range(20):
        user = PEOPLE[n % 4]
        sent.append((user, new_serial(f"turn{n}")))
        end = c.deliver(SENDER, [homes.address(user)],
                        message(sent[-1][1]).decode())[1]
        assert end[:3] == "250"
    assert c.cmd("QUIT")[:3] == "221"
    c.close()
    for user, serial in sent:
        await_one(homes, user, serial)
