"""Memory stays what it is, however large a message or a folder (promise 9)."""

import os
import threading
from pathlib import Path

import pytest


WORLD = {"cutover": "manual", "delta_seconds": 1}
HUGE_MB = 200
MANY = 50_000


def peak_mb(pid):
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line for line in text.splitlines() if line.startswith("VmHWM")]
    return int(found[0].split()[1]) / 1024 if found else 0


class Watch(threading.Thread):
    """The most memory that any process of these roles had; on /proc."""

    def __init__(self, world, *roles):
        super().__init__(daemon=True)
        self.world, self.roles = world, roles
        self.peak = dict.fromkeys(roles, 0)
        self.ending = threading.Event()
        self.start()

    def run(self):
        while not self.ending.wait(0.02):
            for role in self.roles:
                for pid in self.world.pids(role):
                    self.peak[role] = max(self.peak[role], peak_mb(pid))

    def stop(self):
        self.ending.set()
        self.join()
        return self.peak


def put(world, user, name, write):
    """A message into legacy's INBOX, by its files."""
    home = world.legacy_dovecot.folder / "mail" / world.address(user)
    inbox = next(p for p in (home / "Maildir", home) if (p / "cur").is_dir())
    path = inbox / "cur" / f"{name}:2,S"
    with open(path, "wb") as f:
        write(f)
    owner = (inbox / "cur").stat()
    os.chown(path, owner.st_uid, owner.st_gid)


def write_huge(f):
    f.write(b"Subject: huge\r\n\r\n")
    line = b"0123456789abcdef" * 4 + b"\r\n"
    for _ in range(HUGE_MB):
        f.write(line * ((1 << 20) // len(line)))


def first_mail(world, user):
    with world.imap(user, "legacy") as imap:
        imap.append("INBOX", "", None, b"Subject: a\r\n\r\na\r\n")
        imap.select("INBOX")
        imap.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
        imap.expunge()


def test_a_huge_message_is_copied_and_relayed_in_little_memory(shared_world):
    world = shared_world
    first_mail(world, "alice")
    put(world, "alice", "1000.huge.x", write_huge)
    watch = Watch(world, "worker", "login")
    session = world.imap_wire("alice")  # the client reads it meanwhile
    session.ok("EXAMINE INBOX")
    session.line("z UID FETCH 1:* BODY.PEEK[]")
    session.sock.settimeout(120)
    size = int(session.read_line().rpartition(b"{")[2].rstrip(b"}"))
    got = len(session.pending)
    while got < size:
        piece = session.sock.recv(1 << 20)
        assert piece
        got += len(piece)
    session.close()
    world.wait_account("alice", 120, copy="delta", clean=True)
    peak = watch.stop()
    print(peak)
    assert 0 < peak["worker"] < 64, peak
    assert 0 < peak["login"] < 64, peak
    world.mailhaul("cutover", "alice@example.test")
    world.wait_account("alice", route="local", provisioned=True)
    row = world.account("alice")
    assert row["bytes"] > HUGE_MB * 1_000_000 and row["messages"] == 1


def test_a_folder_of_many_messages_is_copied_in_little_memory(shared_world):
    world = shared_world
    first_mail(world, "bob")
    for n in range(MANY):
        put_small(world, "bob", n)
    watch = Watch(world, "worker", "login", "state", "jobs")
    world.imap("bob").logout()
    world.wait_account("bob", 180, copy="delta", clean=True)
    world.mailhaul("cutover", "bob@example.test")
    world.wait_account("bob", 60, route="local", provisioned=True)
    peak = watch.stop()
    print(peak)
    assert 0 < peak["worker"] < 64, peak
    assert max(peak["login"], peak["state"], peak["jobs"]) < 64, peak
    assert world.account("bob")["messages"] == MANY
    with world.imap("bob") as imap:
        assert imap.select("INBOX", readonly=True)[1] == [str(MANY).encode()]


def put_small(world, user, n):
    raw = b"Subject: %d\r\n\r\nsmall\r\n" % n
    put(world, user, f"{1000 + n}.s{n}.x,S={len(raw)}",
        lambda f: f.write(raw))


@pytest.mark.parametrize("size_mb", [HUGE_MB])
def test_a_huge_message_passes_smtp_in_little_memory(shared_world, size_mb):
    """To somebody on legacy; its MX may refuse the size, memory stays."""
    world = shared_world
    watch = Watch(world, "smtp")
    line = b"0123456789abcdef" * 4 + b"\r\n"
    piece = line * ((1 << 20) // len(line))
    with world.wire("smtp") as wire:
        wire.sock.settimeout(120)
        wire.read_line()
        for text in ("HELO x", "MAIL FROM:<x@sender.test>",
                     "RCPT TO:<carol@example.test>", "DATA"):
            wire.line(text)
            answer = wire.read_line()
        assert answer.startswith(b"354"), answer
        wire.send("Subject: huge\r\n\r\n")
        try:
            for _ in range(size_mb):
                wire.send(piece)
            wire.line(".")
            answer = wire.read_line()
        except OSError:
            answer = b"5 cut"
    peak = watch.stop()
    print(peak, answer)
    assert answer[:1] in b"25", answer
    assert 0 < peak["smtp"] < 64, peak
