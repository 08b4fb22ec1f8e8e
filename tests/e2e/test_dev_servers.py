"""The servers that all other tests stand on."""

import hashlib
import os
import socket
import sqlite3
import ssl
import subprocess
from pathlib import Path

import pytest

from devservers import ca, ports
from devservers.filling import modified_utf7
from devservers.processes import descendants
from lib.pop3_reader import Pop3Reader
from lib.qresync import QresyncClient
from lib.senders import Sender
from lib.snapshot import (differences, find_serials, folder_names, quote,
                          snapshot)
from lib.waiting import wait_until
from lib.wire import Wire

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def filled(servers):
    servers.fill("alice", messages=400, folders=25, total=4_000_000)
    return servers


def test_every_port_answers(servers):
    for name in servers.servers:
        servers.wait_ready(name)


@pytest.mark.parametrize("side", ["legacy", "local"])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_names_in_certificates_verify(servers, side, tls):
    imap = servers.imap_connect(side, tls)
    assert b"OK" in imap.welcome
    imap.shutdown()


def test_a_certificate_with_another_name_is_refused_by_clients(servers):
    ca.issue(servers.ca, "wrong", "DNS:elsewhere.test")
    context = ssl.create_default_context(cafile=str(servers.ca_file))
    with Wire(servers.legacy["imap"]) as wire:
        wire.read_line()
        wire.line("a STARTTLS")
        wire.read_line()
        with pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(wire.sock, server_hostname="elsewhere.test")


def test_the_filled_mailbox_is_served_whole(filled):
    seen = filled.snapshot("alice", "legacy")
    messages = [m for f in seen.values() for m in f.messages.values()]
    assert 330 < len(messages) < 400
    assert len(seen) == 26
    flags = set().union(*(m.flags for m in messages))
    assert {"\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "\\Draft",
            "$Forwarded", "NonJunk"} <= flags
    assert any(f.uid_next > max(f.messages, default=0) + 1
               for f in seen.values())
    assert modified_utf7("Entwürfe") in seen and "a.b.example" in seen
    assert hashlib.sha256(b"").hexdigest() in {m.sha256 for m in messages}


def test_looking_at_a_mailbox_changes_nothing(filled):
    first = filled.snapshot("alice", "legacy")
    assert differences(first, filled.snapshot("alice", "legacy")) == []


def test_a_difference_is_seen(filled):
    before = filled.snapshot("alice", "legacy", bodies=False)
    imap = filled.imap("alice", "legacy")
    imap.select("Sent")
    uid = max(before["Sent"].messages)
    imap.uid("STORE", str(uid), "+FLAGS", "(Changed)")
    imap.logout()
    found = differences(before, filled.snapshot("alice", "legacy", False))
    assert len(found) == 1 and f"Sent uid {uid}" in found[0]


def test_folders_of_the_prefix_variant_begin_with_inbox(make_world):
    world = make_world(run=False, legacy_prefix=True)
    world.fill("alice", messages=100, folders=25, total=300_000)
    imap = world.imap("alice", "legacy")
    names = folder_names(imap)
    assert len(names) == 26
    assert all(n == "INBOX" or n.startswith("INBOX.") for n in names)
    assert "INBOX.Archive.2019.Kunden" in names
    assert imap.namespace()[1] == [b'(("INBOX." ".")) NIL NIL']


def test_legacy_postfix_delivers_and_knows_its_users(servers):
    serials = [servers.send("bob", "legacy"), servers.send("bob+x", "legacy"),
               servers.send("team", "legacy")]
    imap = servers.imap("bob", "legacy")
    wait_until(lambda: set(serials) <= find_serials(imap).keys())
    with servers.smtp("legacy") as smtp:
        smtp.mail("x@sender.test")
        assert smtp.rcpt("nobody@example.test")[0] == 550
        assert smtp.rcpt("bob@elsewhere.test")[0] == 554


def test_mbsync_pulls_a_mailbox_once(filled):
    client = filled.mbsync("alice", "legacy")
    first = client.sync()
    # all but those \Deleted or without a whole header, which it never pulls
    assert first["new"] > 250, first
    assert first["code"] == 0, first
    again = client.sync()
    assert (again["new"], again["gone"]) == (0, 0), again
    client.close()


def test_a_pop3_client_downloads_only_what_is_new(servers):
    serials = [servers.send("carol", "legacy") for _ in range(3)]
    imap = servers.imap("carol", "legacy")
    wait_until(lambda: set(serials) <= find_serials(imap).keys())
    reader = Pop3Reader()
    assert len(reader.collect(servers.pop3("carol", "legacy"))) == 3
    assert reader.collect(servers.pop3("carol", "legacy")) == []
    serial = servers.send("carol", "legacy")
    wait_until(lambda: serial in find_serials(imap))
    assert len(reader.collect(servers.pop3("carol", "legacy"))) == 1


def test_a_qresync_client_follows_what_happened_while_it_was_away(servers):
    servers.fill("dave", messages=60, folders=2, total=100_000)
    client = QresyncClient("INBOX")
    with servers.imap_wire("dave", "legacy") as wire:
        client.sync(wire)
    uids = sorted(client.flags)
    imap = servers.imap("dave", "legacy")
    imap.select("INBOX")
    imap.uid("STORE", str(uids[0]), "+FLAGS", "(\\Deleted)")
    imap.uid("EXPUNGE", str(uids[0]))
    imap.uid("STORE", str(uids[1]), "FLAGS", "(Strange)")
    imap.logout()
    with servers.imap_wire("dave", "legacy") as wire:
        done = client.sync(wire)
        assert done == {"vanished": {uids[0]}, "changed": {uids[1]},
                        "new": set()}
        assert client.truth(wire) == client.flags


def test_a_sender_keeps_account_of_what_was_accepted(servers):
    sender = Sender("steady", servers.legacy["smtp"], "x@sender.test",
                    "erin@example.test", 0.02, servers.ca_file)
    sender.start()
    wait_until(lambda: len(sender.accepted) >= 5)
    sender.stop()
    imap = servers.imap("erin", "legacy")
    wait_until(lambda: find_serials(imap).keys() == set(sender.accepted))
    assert sender.refused == {} and sender.unsure == set()


def add_local_user(world, user, active, prefix=None, separator=None):
    home = world.settings.store / world.settings.domain / user
    with sqlite3.connect(world.settings.auth_db) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(users)")]
        if "can_login" not in columns:  # mailhauld has not been there yet
            db.executescript(
                "ALTER TABLE users ADD COLUMN can_login INTEGER DEFAULT 1;"
                "ALTER TABLE users ADD COLUMN can_submit INTEGER DEFAULT 1;"
                "CREATE TABLE passwords (username, slot, password)")
        db.execute("INSERT INTO users VALUES (?,?,?,?,8,8,?,?,?,1,1,1)", (
            world.address(user), f"{{PLAIN}}{world.password(user)}",
            str(home), f"maildir:{home}/Maildir", prefix, separator, active))
    db.close()


def test_local_serves_what_auth_db_says(servers):
    add_local_user(servers, "alice", 1, "INBOX.", ".")
    imap = servers.imap("alice", "local")
    assert imap.namespace()[1] == [b'(("INBOX." ".")) NIL NIL']
    assert imap.create('"INBOX.a/b"')[0] == "OK"
    assert folder_names(imap) == ["INBOX", "INBOX.a/b"]
    add_local_user(servers, "bob", 1)
    imap = servers.imap("bob", "local")
    assert imap.namespace()[1] == [b'(("" "/")) NIL NIL']
    assert imap.create(quote("v1.2/x"))[0] == "OK"
    assert "v1.2/x" in folder_names(imap)
    assert snapshot(imap)["INBOX"].messages == {}


def test_local_hides_a_user_that_is_not_active_but_doveadm_sees_it(servers):
    add_local_user(servers, "carol", 0)
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        servers.imap("carol", "local")
    with Wire(servers.local["lmtp"]) as wire:
        wire.read_line()
        wire.line("LHLO x")
        while wire.read_line()[3:4] == b"-":
            pass
        wire.line("MAIL FROM:<>")
        assert wire.read_line().startswith(b"250")
        wire.line(f"RCPT TO:<{servers.address('carol')}>")
        assert wire.read_line().startswith(b"550")
    said = servers.local_dovecot.doveadm(
        "mailbox", "list", "-u", servers.address("carol"))
    assert "INBOX" in said


def test_dev_up_and_dev_down_leave_nothing(tmp_path_factory):
    folders = [Path(f"/tmp/mh-updown-{os.getpid()}-{n}") for n in (1, 2)]
    for folder in folders:
        subprocess.run([SCRIPTS / "dev-up", folder], check=True,
                       capture_output=True)
    env = [(f / "env").read_text() for f in folders]
    assert all("LEGACY_IMAP_PORT=" in e and "CA_FILE=" in e for e in env)
    again = subprocess.run([SCRIPTS / "dev-up", folders[0]],
                           capture_output=True, text=True)
    assert again.returncode == 2 and "running" in again.stderr
    for folder in folders:
        subprocess.run([SCRIPTS / "dev-down", folder], check=True)
        assert not folder.exists()
    left = b"".join(p.read_bytes() for p in Path("/proc").glob("*/cmdline"))
    assert not any(str(f).encode() in left for f in folders)


def test_a_stopped_server_is_gone_and_starts_again(servers):
    pid = servers.records.pid("legacy-dovecot")
    assert descendants(pid)
    servers.stop("legacy-dovecot")
    with pytest.raises(OSError):
        servers.imap_connect("legacy")
    servers.start("legacy-dovecot")
    servers.wait_ready("legacy-dovecot")
    servers.imap("bob", "legacy").logout()


def test_a_held_port_is_given_to_nobody_else_and_serves_its_owner():
    held = ports.pick(["imap"])
    with pytest.raises(OSError):
        ports.Reservation(["imap"], held["imap"])
    with socket.create_server(("127.0.0.1", held["imap"])):
        assert ports.answers(held["imap"], banner=False)
    with pytest.raises(OSError):
        ports.Reservation(["imap"], held["imap"])
    held.release()
    again = ports.Reservation(["imap"], held["imap"])
    again.release()
