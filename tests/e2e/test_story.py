"""One long story on the real servers: two hundred accounts, mail and logins
all the while, and everything that an operator does when something goes wrong.
It ends with every message in one place, and the audit telling it."""

import json
import signal
import subprocess
import time

import pytest
from devservers import node
from lib.clock import restart
from lib.flipping import Background
from lib.old_domains import imap_answer, is_refusal
from lib.senders import Sender
from lib.small_disk import SmallDisk
from lib.story import (Clients, broken_links, each, look_through,
                       missing_acts, write_mailbox)
from lib.waiting import wait_until
from test_brake import place
from test_identity import rename_on_legacy

USERS = 200
DOMAIN = "example.test"
STORE_MB, RESERVE_MB = 160, 24
WORLD = {"cutover": "manual", "more_users": USERS, "legacy_tls": "none",
         "delta_seconds": 8, "trail_inbox_seconds": 15, "trail_seconds": 60,
         "reserve": "{bytes: %dM, inodes: 100}" % RESERVE_MB}
NEW_PASSWORD, LATER_PASSWORD = "set-by-support", "set-after-the-backup"


class Cast:
    """Who is who: the first of the order in which a share takes them in."""

    def __init__(self, users):
        self.order = sorted(users, key=lambda u: place(f"{u}@{DOMAIN}"))
        (self.moved, self.moving, self.stolen, self.back,
         self.second_stolen) = self.order[:5]
        self.fifty = self.order[:50]
        self.after_backup = self.order[50:70]
        self.late = self.order[50]
        self.waiting = self.order[70:73]  # they stay on legacy
        self.waits = self.order[70]
        self.renamed = self.order[73]
        self.last = self.order[-1]

    def admitted(self, percent):
        return {u for u in self.order
                if place(f"{u}@{DOMAIN}") < percent * 10_000}


class Story:
    def __init__(self, world, disk):
        self.world, self.disk = world, disk
        self.users = [f"user{n:03}" for n in range(1, USERS + 1)]
        self.cast = Cast(self.users)
        self.mail = {user: write_mailbox(world, user, n)
                     for n, user in enumerate(self.users)}
        self.written = {user: len(s) for user, s in self.mail.items()}
        self.before = each(lambda u: world.snapshot(u, "legacy"), self.users)
        cast = self.cast
        # late mail is not in the INBOX at once: the trail brings it
        self.clients = Clients(world, self.users,
                               {cast.moved, cast.moving, cast.back})
        self.acts = []
        self.began = time.monotonic()
        ours, legacys = world.own["smtp"], world.legacy["smtp"]
        self.senders = [self._sender(name, ours, "x@sender.test", who)
                        for name, who in (
                            ("moved", cast.moved), ("moving", cast.moving),
                            ("stolen", cast.stolen), ("back", cast.back),
                            ("late", cast.late), ("waits", cast.waits),
                            ("last", cast.last))]
        self.senders += [
            self._sender(f"colleague-{name}", legacys, f"bob@{DOMAIN}", who)
            for name, who in (("moved", cast.moved), ("moving", cast.moving),
                              ("back", cast.back))]
        self.senders.append(self._sender(
            "reply", ours, world.address(cast.moved), "bob"))

    def _sender(self, name, port, sender, who):
        made = Sender(name, port, sender, self.world.address(who), 1.5)
        made.who = who
        return made

    # what is done and seen

    def tell(self, text):
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def act(self, event, address, reason, *args):
        """A command with a reason, that the audit must tell."""
        done = self.world.mailhaul(*args, "--reason", reason)
        self.acts.append((event, address, reason))
        return done

    def set_domain(self, reason, *args):
        self.act("domain set", DOMAIN, reason, "domain", "set", DOMAIN, *args)

    def rows(self):
        listed = self.world.mailhaul("account", "list", "--domain", DOMAIN)
        return {row["address"].partition("@")[0]: row
                for row in listed["accounts"]}

    def routes(self):
        return {user: row["route"] for user, row in self.rows().items()}

    def wait_rows(self, users, wait_s=90, **wanted):
        def others():
            rows = self.rows()
            return [(u, rows.get(u, {}).get("route"),
                     rows.get(u, {}).get("copy"),
                     rows.get(u, {}).get("last_error")) for u in users
                    if any(rows.get(u, {}).get(k) != v
                           for k, v in wanted.items())]
        wait_until(lambda: not others(), wait_s, 0.3,
                   lambda: f"{wanted}: {others()[:5]}")

    def log_in(self, users):
        return each(lambda u: self.clients.look(
            u, self.users.index(u) % 4 == 0), users, 12)

    def cutover(self, users, reason):
        each(lambda u: self.world.mailhaul(
            "cutover", self.world.address(u), "--reason", reason), users, 4)
        self.acts.append(
            ("cutover", self.world.address(users[-1]), reason))

    def check_goes_on(self):
        """Mail is taken for everybody, and clients get in."""
        taken = {s: len(s.accepted) for s in self.senders}
        looks = self.clients.looks
        wait_until(lambda: all(len(s.accepted) > n for s, n in taken.items())
                   and self.clients.looks > looks, 60, 0.2,
                   lambda: [s.name for s, n in taken.items()
                            if len(s.accepted) == n])

    def gets_in(self, user, password):
        return imap_answer(self.world, self.world.address(user),
                           password)[0].startswith("OK")

    def is_refused(self, user, password):
        return is_refusal(imap_answer(
            self.world, self.world.address(user), password)[0])

    # the chapters

    def taken_in_by_percentage(self):
        cast = self.cast
        self.set_domain("pilots", "--admit", "10%")
        for sender in self.senders:
            sender.start()
        self.clients.start()
        self.log_in(self.users)
        early = cast.admitted(10)
        wait_until(lambda: self.rows().keys() == early, 30, 0.3,
                   lambda: sorted(self.rows().keys() ^ early))
        # of the others nothing is written down, but that they get mail
        strangers = [u for u in self.users if u not in early
                     and u not in {s.who for s in self.senders}]
        assert self.written_down(strangers) == []
        assert None not in self.log_in(strangers[:10]).values()
        self.set_domain("the pilots are content", "--admit", "60%")
        self.log_in(self.users)
        second = cast.admitted(60)
        wait_until(lambda: self.rows().keys() == second, 30, 0.3)
        assert {*cast.fifty, *cast.after_backup, *cast.waiting} <= second
        self.wait_rows(second, copy="delta")

    def written_down(self, users):
        """Who of them stands in a file of the state directory; the session
        lines are a log."""
        texts = [path.read_bytes()
                 for path in (self.world.folder / "state").rglob("*")
                 if path.is_file() and path.parent.name != "trace"]
        return [u for u in users if any(
            self.world.address(u).encode() in text for text in texts)]

    def frozen_amid_flips(self):
        world, fifty = self.world, self.cast.fifty
        self.client = world.mbsync(self.cast.back, name="his-client")
        assert self.client.sync()["code"] == 0
        self.kept = self.client.messages()
        assert len(self.kept) >= len(self.mail[self.cast.back])
        flips = Background(self.cutover, fifty, "first fifty")
        wait_until(lambda: self.count_local() >= 10, 60, 0.02)
        self.act("freeze", DOMAIN, "too many calls", "freeze", "--domain",
                 DOMAIN)
        wait_until(lambda: "held" not in self.routes().values(), 10, 0.1)
        flips.result()
        frozen = self.routes()
        moved = self.count_local()
        assert 10 <= moved < 50, moved
        self.tell(f"frozen with {moved} of 50 flipped")
        self.check_goes_on()
        late = world.send(self.cast.moved, "legacy")
        self.mail[self.cast.moved].append(late)
        time.sleep(2)
        assert self.routes() == frozen
        self.act("thaw", DOMAIN, "all calls answered", "thaw", "--domain",
                 DOMAIN)
        # who was asked for while nothing moved was refused
        self.cutover([u for u in fifty if self.routes()[u] != "local"],
                     "the rest of the fifty")
        self.wait_rows(fifty, route="local")
        assert self.count_local() == 50

    def count_local(self):
        return list(self.routes().values()).count("local")

    def one_password_stolen(self):
        world, user = self.world, self.cast.stolen
        address = world.address(user)
        self.clients.away.add(user)
        thief = world.imap(user)
        began = time.monotonic()
        self.act("account lock", address, "phished", "account", "lock",
                 address, "--all")
        wait_until(lambda: has_ended(thief), 5, 0.05)
        # a second is promised; the command itself and a busy machine on top
        self.tell(f"ended within {time.monotonic() - began:.1f} s")
        assert self.is_refused(user, world.password(user))
        self.check_goes_on()  # mail for her, too
        self.set_password(user, NEW_PASSWORD, "called back")
        self.act("account unlock", address, "called back", "account",
                 "unlock", address)
        assert self.is_refused(user, world.password(user))
        assert self.gets_in(user, NEW_PASSWORD)
        self.clients.away.discard(user)

    def set_password(self, user, new, reason):
        subprocess.run(
            [node.binaries() / "mailhaul", "-c", self.world.node.conf,
             "account", "password", self.world.address(user), "--file", "-",
             "--reason", reason], input=new + "\n", text=True, check=True,
            capture_output=True)
        self.clients.passwords[user] = new
        self.acts.append(("account password", self.world.address(user),
                          reason))

    def one_address_renamed(self):
        world, user, new = self.world, self.cast.renamed, "renamed"
        self.clients.away.add(user)
        with self.clients.locks[user]:
            rename_on_legacy(world, user, new)
        self.act("account rename", world.address(user), "married", "account",
                 "rename", world.address(user), world.address(new))
        for kept in (self.mail, self.before, self.written,
                     self.clients.locks):
            kept[new] = kept.pop(user)
        self.clients.passwords[new] = world.password(user)
        self.users[self.users.index(user)] = self.cast.renamed = new
        assert self.is_refused(user, world.password(user))
        assert self.clients.look(new) is not None
        self.wait_rows([new], copy="delta")
        assert user not in self.rows()

    def one_taken_back_and_moved_again(self):
        world, user = self.world, self.cast.back
        address = world.address(user)
        new = {world.send(user) for _ in range(3)}
        self.mail[user] += sorted(new)
        wait_until(lambda: new <= self.places(user, "local").keys(), 30, 0.3)
        self.sync()
        self.act("rollback", address, "his calendar", "rollback", address,
                 "--wait")
        assert self.rows()[user]["route"] == "legacy"
        there = self.places(user, "legacy")
        assert new <= there.keys()
        assert [s for s, found in there.items() if len(found) != 1] == []
        back = self.sync()
        # what came on the new server has other numbers here, nothing else
        assert back["new"] <= self.sent_to(user), back
        self.check_goes_on()
        self.wait_rows([user], copy="delta")
        self.cutover([user], "calendar is mended")
        self.wait_rows([user], route="local")
        again = self.sync()
        assert again["gone"] == 0, again
        assert again["new"] <= self.sent_to(user) - back["new"] + 3, again

    def places(self, user, side):
        return look_through(self.world, user, side)[1]

    def sync(self):
        """What his client had before everything, it never fetches again."""
        done = self.client.sync()
        assert done["code"] == 0, done
        assert self.kept <= self.client.messages()
        return done

    def sent_to(self, user):
        return len(self.expected(user)) - self.written[user]

    def control_db_lost(self):
        world, cast = self.world, self.cast
        copies = world.folder / "backup"
        copies.mkdir()
        copy = world.mailhaul("db", "backup", copies)["file"]
        known = self.count_local()
        self.cutover(cast.after_backup, "twenty more")
        del self.acts[-1]  # the audit of these hours is lost with the db
        self.wait_rows(cast.after_backup, route="local")
        self.set_password(cast.second_stolen, LATER_PASSWORD, "phished, too")
        del self.acts[-1]
        before = self.routes()
        looks = self.clients.looks
        world.stop("mailhauld", number=signal.SIGKILL)
        for file in (world.folder / "state").glob("control.db*"):
            if not file.name.endswith(".lock"):
                file.unlink()
        done = world.mailhaul("db", "rebuild", "--from", copy,
                              "--reason", "its disk died")
        self.acts.append(("db rebuild", "", "its disk died"))
        self.tell(f"rebuilt: {done['changed']} changed, {known} known before")
        assert done["changed"] == len(cast.after_backup), done
        assert done["doubtful"] == 0 and done["contradictions"] == []
        world.run_node()
        assert self.routes() == before
        assert world.mailhaul("status")["refused"] == 0
        self.check_goes_on()
        assert self.clients.looks > looks
        # everybody finds what he has found before, wherever he lives
        assert None not in self.log_in(self.users).values()
        assert self.is_refused(cast.second_stolen,
                               world.password(cast.second_stolen))
        for user in (cast.stolen, cast.second_stolen):
            assert self.gets_in(user, self.clients.passwords[user])

    def disk_full_once(self):
        world = self.world
        self.disk.leave(RESERVE_MB // 2)
        self.set_domain("now all", "--admit", "100%")
        self.log_in(self.users)
        wait_until(lambda: self.rows().keys() == set(self.users), 30, 0.3)
        wait_until(lambda: any("store.reserve" in (row["last_error"] or "")
                               for row in self.rows().values()), 60, 0.3)
        self.check_goes_on()  # live mail has the room that copying has not
        self.disk.fill()
        deferred = self.senders[0].deferred
        wait_until(lambda: self.senders[0].deferred > deferred, 30)
        self.disk.empty()
        self.check_goes_on()
        self.act("migrate", self.world.address(self.cast.last), "room again",
                 "migrate", "--domain", DOMAIN)
        self.acts.pop()  # it only hurries what is on its way
        local = {u for u, r in self.routes().items() if r == "local"}
        self.wait_rows(set(self.users) - local, 120, copy="delta")
        assert world.mailhaul("status")["refused"] == 0

    def the_rest_moves(self):
        world, cast = self.world, self.cast
        for user in cast.waiting:
            self.act("account pause", world.address(user), "asks to wait",
                     "account", "pause", world.address(user))
        world.mailhaul("cutover", "--domain", DOMAIN, "--reason", "the rest",
                       check=False)
        self.acts.append(("cutover", world.address(cast.last), "the rest"))
        self.wait_rows(set(self.users) - set(cast.waiting), 120,
                       route="local")
        self.check_goes_on()
        for sender in self.senders:
            sender.stop()
            assert sender.refused == {}, sender.name
        self.clients.stop()
        assert self.clients.wrong == [] and self.clients.fewer == []

    # the end

    def expected(self, user):
        return self.mail[user] + [serial for s in self.senders
                                  if s.who == user for serial in s.accepted]

    def unsure(self, user):
        return set().union(*(s.unsure for s in self.senders if s.who == user))

    def side(self, user):
        return "legacy" if user in self.cast.waiting else "local"

    def every_message_in_one_place(self):
        world = self.world
        for user in (self.cast.moved, self.cast.moving, self.cast.back):
            world.mailhaul("migrate", world.address(user))  # a last pass
            wait_until(lambda u=user: self.faults(u) == [], 60, 0.5,
                       lambda u=user: self.faults(u)[:5])
        found = each(self.faults, self.users)
        assert {u: f for u, f in found.items() if f} == {}
        bobs = look_through(world, "bob", "legacy")[1]
        reply = self.senders[-1]
        assert {s: len(p) for s, p in bobs.items() if s not in reply.unsure} \
            == dict.fromkeys(set(reply.accepted) - reply.unsure, 1)

    def faults(self, user):
        """What is not as his mailbox should be, where his route points."""
        shot, serials = look_through(self.world, user, self.side(user),
                                     self.clients.passwords.get(user))
        faults = [(user, name, uid, message, shot[name].messages.get(uid))
                  for name, folder in self.before[user].items()
                  for uid, message in folder.messages.items()
                  if shot[name].messages.get(uid) != message]
        wanted = self.expected(user)
        unsure = self.unsure(user)
        faults += [(user, "missing", s) for s in wanted if s not in serials]
        faults += [(user, "doubled", s, where)
                   for s, where in serials.items()
                   if len(where) != 1 and s not in unsure]
        faults += [(user, "whose is this", s) for s in serials
                   if s not in wanted]
        total = sum(len(folder.messages) for folder in shot.values())
        if total != sum(map(len, serials.values())):
            faults.append((user, "without a serial", total))
        return faults

    def verify_is_clean(self):
        quiet = [u for u in self.users if self.side(u) == "local"
                 and not self.sent_to(u)]
        done = self.world.mailhaul("verify", "--domain", DOMAIN, check=False)
        told = {a["address"]: a for a in json.loads(done.stdout)["accounts"]}
        assert {u: told[self.world.address(u)] for u in quiet
                if told[self.world.address(u)].get("differences") != 0} == {}
        assert self.world.mailhaul("db", "check")["difference_count"] == 0

    def the_domain_is_closed(self):
        bars = self.what_stands_against_the_end()
        assert bars["on_legacy"] == len(self.cast.waiting)
        assert {"late_mail", "legacy_accepts", "way_back"} <= bars.keys()
        restart(self.world, time.time() + 40 * 86400)
        later = self.what_stands_against_the_end()
        assert later == {bar: count for bar, count in bars.items()
                         if bar not in ("late_mail", "way_back")}
        self.act("domain close", DOMAIN, "the old server is sold", "domain",
                 "close", DOMAIN, "--force")
        wait_until(lambda: all(
            row["copy"] == "done" for user, row in self.rows().items()
            if user not in self.cast.waiting), 60, 0.5)
        assert self.faults(self.cast.moved) == []
        assert self.faults(self.cast.waits) == []

    def what_stands_against_the_end(self):
        """{bar: count} of a `domain close` that is refused."""
        done = self.world.mailhaul("domain", "close", DOMAIN, check=False,
                                   wait_s=300)
        told = json.loads(done.stdout)
        assert done.returncode == 1 and told["state"] == "refused", told
        return {bar["bar"]: bar["count"] for bar in told["bars"]}

    def the_audit_tells_it(self):
        entries = self.world.mailhaul("audit", "--limit", "10000")["entries"]
        assert 1000 < len(entries) < 10_000  # or there may be more
        entries.reverse()
        assert missing_acts(entries, self.acts) == []
        accounts = {row["address"]: row for row in self.rows().values()}
        theirs = [e for e in entries if e["address"] in accounts]
        broken = broken_links(theirs, accounts)
        assert broken == [], (len(broken), broken[:6])
        assert [e["at"] for e in entries] == sorted(e["at"] for e in entries)


def has_ended(session):
    try:
        session.noop()
    except (session.abort, OSError):
        return True
    return False


@pytest.fixture
def story(make_world):
    world = make_world(run=False, **WORLD)
    disk = SmallDisk(world.settings.store, STORE_MB)
    try:
        world._make_owned()
        world.node.cli("init")
        world.add_domain()
        world.run_node()
        yield Story(world, disk)
        world.stop_all()
    finally:
        disk.close()


CHAPTERS = (
    Story.taken_in_by_percentage, Story.frozen_amid_flips,
    Story.one_password_stolen, Story.one_address_renamed,
    Story.one_taken_back_and_moved_again,
    Story.control_db_lost, Story.disk_full_once, Story.the_rest_moves,
    Story.every_message_in_one_place, Story.verify_is_clean,
    Story.the_domain_is_closed, Story.the_audit_tells_it)


def test_two_hundred_accounts_and_all_that_can_happen(story):
    for chapter in CHAPTERS:
        story.tell(chapter.__name__)
        chapter(story)
    story.tell("the end")
