"""Lists of accounts: account import, and migrate --csv with the same format."""

import base64
import hashlib
import json
import sqlite3
import subprocess

import pytest
from devservers import node

WORLD = {"cutover": "manual", "more_users": 3}


@pytest.fixture
def write(tmp_path):
    def write(text, name="list.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path
    return write


def accounts(world):
    return {a["address"] for a in
            world.mailhaul("account", "list")["accounts"]}


def run(world, *args):
    done = world.mailhaul("account", "import", *args, check=False)
    return done.returncode, json.loads(done.stdout)


def test_every_column_is_taken_and_shown(shared_world, write):
    w = shared_world
    d = w.settings.domain
    path = write("\ufeffaddress;names;legacy_user;password;quota;aliases;"
                 "forward;owner;group\r\n"
                 f"Full@{d};u4711 full.old@{d};full-old;geheim;10G;"
                 f"info@{d} Sales@{d};away@other.test;Müller & Söhne;"
                 "business\r\n")
    code, said = run(w, path)
    assert code == 0 and said["applied"] and said["created"] == 1
    shown = w.account(f"full@{d}")
    assert shown["route"] == "legacy" and shown["copy"] == "none"
    assert shown["legacy_user"] == "full-old"
    assert shown["password_sealed"] is True
    assert shown["quota"] == 10 << 30
    assert shown["names"] == [f"full.old@{d}", "u4711"]
    assert shown["aliases"] == [f"info@{d}", f"sales@{d}"]
    assert shown["forward"] == ["away@other.test"]
    assert shown["owner"] == "Müller & Söhne" and shown["group"] == "business"
    assert "geheim" not in w.node.log.read_text()

    code, said = run(w, path)  # the same once more: only the password
    assert code == 0 and said["unchanged"] == 0 and said["changed"] == 1
    assert [c["field"] for c in said["accounts"][0]["changes"]] == ["password"]
    path = write(f"address,quota,aliases,owner\nfull@{d},-,-,-\n")
    code, said = run(w, path)
    shown = w.account(f"full@{d}")
    assert (shown["quota"], shown["aliases"]) == (0, [])
    assert shown["owner"] == "" and shown["group"] == "business"


def test_a_bad_line_keeps_all_from_being_written(shared_world, write):
    w = shared_world
    d = w.settings.domain
    before = accounts(w)
    path = write("address,quota,aliases\n"
                 f"good1@{d},1G,\n"
                 f"bad@{d},much,\n"
                 "stranger@elsewhere.test,,\n"
                 f"good2@{d},2G,twin@{d}\n"
                 f"good3@{d},2G,twin@{d}\n"
                 f"not an address@{d},,\n")
    code, said = run(w, path)
    assert code == 1 and not said["applied"] and said["refused"] == 4
    lines = {p["line"] for p in said["problems"]} | {
        a["line"] for a in said["accounts"] if a["action"] == "refused"}
    assert lines == {3, 4, 6, 7}
    assert accounts(w) == before

    code, said = run(w, "--partial", path)
    assert code == 1 and said["applied"] and said["created"] == 2
    assert accounts(w) == before | {f"good1@{d}", f"good2@{d}"}


def test_a_dry_run_prints_the_difference_and_writes_nothing(shared_world,
                                                            write):
    w = shared_world
    d = w.settings.domain
    assert run(w, write(f"address,owner\ndry@{d},C1\n"))[0] == 0
    path = write(f"address,owner\ndry@{d},C2\nnew@{d},C3\n")
    code, said = run(w, "--dry-run", path)
    assert code == 0 and said["dry_run"] and not said["applied"]
    assert said["created"] == 1 and said["changed"] == 1
    assert said["accounts"][0]["changes"] == [
        {"field": "owner", "was": "C1", "becomes": "C2"}]
    assert w.account(f"new@{d}") is None
    assert w.account(f"dry@{d}")["owner"] == "C1"
    text = subprocess.run(
        [str(node.binaries() / "mailhaul"), "-c", str(w.node.conf), "account",
         "import", "--dry-run", str(path)], capture_output=True, text=True)
    assert 'owner: "C1" -> "C2"' in text.stdout
    assert "nothing was written" in text.stdout


def test_windows_1252_only_when_it_is_named(shared_world, write):
    w = shared_world
    d = w.settings.domain
    path = write(f"address;owner\nwin@{d};Größe €\n", encoding="cp1252")
    code, said = run(w, path)
    assert code == 1 and said["problems"][0]["line"] == 2
    assert "UTF-8" in said["problems"][0]["error"]
    assert w.account(f"win@{d}") is None
    code, said = run(w, "--encoding", "windows-1252", path)
    assert code == 0
    assert w.account(f"win@{d}")["owner"] == "Größe €"


def test_names_belong_to_one_account(shared_world, write):
    w = shared_world
    d = w.settings.domain
    assert run(w, write(f"address,names,aliases\none@{d},tech1,al1@{d}\n"
                        ))[0] == 0
    for line in (f"two@{d},tech1,", f"two@{d},,al1@{d}", f"two@{d},one@{d},",
                 f"two@{d},,one@{d}", f"al1@{d},,", f"two@{d},,two@{d}"):
        code, said = run(w, write(f"address,names,aliases\n{line}\n"))
        assert code == 1, line
        assert not said["applied"], line
    assert w.account(f"two@{d}") is None


def test_a_mistake_in_the_header_or_the_call(shared_world, write):
    w = shared_world
    for args in ((write("address,wrong\na@b,c\n"),), ("/no/such/file",),
                 ("--encoding", "koi8-r", write("address\n", "other.csv"))):
        done = w.mailhaul("account", "import", *args, check=False)
        assert done.returncode == 1 and "error" in done.stdout


def test_thousands_of_lines_are_all_or_nothing(shared_world, write):
    w = shared_world
    d = w.settings.domain
    before = accounts(w)
    rows = [f"bulk{i}@{d},C{i}" for i in range(2500)]
    path = write("address,owner\n" + "\n".join(rows + [f"bulk@{d},x\x01"]))
    code, said = run(w, path)
    assert code == 1 and said["refused"] == 1
    assert accounts(w) == before
    code, said = run(w, write("address,owner\n" + "\n".join(rows)))
    assert code == 0 and said["created"] == 2500
    assert len(accounts(w)) == len(before) + 2500


def test_who_was_only_in_a_list_is_taken_in_by_his_login(shared_world, write):
    w = shared_world
    user = f"user001@{w.settings.domain}"
    assert run(w, write(f"address,group\n{user},premium\n"))[0] == 0
    assert w.account(user)["copy"] == "none"
    w.imap(user).logout()
    row = w.wait_account(user, copy="delta")
    assert row["password_state"] == "learnt" and row["group"] == "premium"


def test_a_foreign_hash_is_taken_and_shown_to_nobody(shared_world, write):
    w = shared_world
    user = f"hashed@{w.settings.domain}"
    hash_ = "{SSHA}" + base64.b64encode(hashlib.sha1(b"pwsalt").digest()
                                        + b"salt").decode()
    path = write(f"address;hash\n{user};{hash_}\n")
    code, said = run(w, path)
    assert code == 0 and hash_ not in json.dumps(said)
    assert [c["origin"] for c in w.account(user)["credentials"]] == [
        "imported"]
    assert run(w, path)[1]["unchanged"] == 1
    path = write(f"address;password\n{user};{{SSHA}}nonsense\n")
    code, said = run(w, path)
    assert code == 1 and "nonsense" not in json.dumps(said)


def test_a_frozen_domain_takes_nobody_in_from_a_list(shared_world, write):
    w = shared_world
    user = f"user003@{w.settings.domain}"
    assert run(w, write(f"address,group\n{user},premium\n"))[0] == 0
    w.mailhaul("freeze")
    w.imap(user).logout()
    assert w.account(user)["copy"] == "none"
    assert not w.account(user)["password_sealed"]
    w.mailhaul("thaw")
    w.imap(user).logout()
    w.wait_account(user, copy="delta")


def test_migrate_moves_who_was_imported_with_a_password(shared_world, write):
    w = shared_world
    user = f"user002@{w.settings.domain}"
    assert run(w, write(f"address,password\n{user},{w.password(user)}\n"
                        ))[0] == 0
    w.mailhaul("migrate", user)
    w.wait_account(user, copy="delta")
    done = w.mailhaul("migrate", "--csv",
                      write(f"address,quota\n{user},1G\n"), check=False)
    assert done.returncode == 1 and "account import" in done.stdout


def test_every_line_that_changes_something_is_in_the_audit(shared_world,
                                                           write):
    w = shared_world
    d = w.settings.domain
    assert run(w, write(f"address,owner\naud@{d},C1\n"))[0] == 0
    assert run(w, write(f"address,owner\naud@{d},C1\n"))[0] == 0
    with sqlite3.connect(f"file:{w.folder}/state/control.db?mode=ro",
                         uri=True) as db:
        rows = db.execute("SELECT event, actor, became FROM audit JOIN "
                          "accounts a ON a.id = account_id WHERE "
                          "a.address = ?", (f"aud@{d}",)).fetchall()
    assert len(rows) == 1
    assert rows[0][0] == "account create" and rows[0][1].startswith("uid")
    assert "owner=C1" in rows[0][2]
