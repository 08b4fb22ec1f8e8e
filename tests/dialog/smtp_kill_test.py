"""Senders that repeat until they hear 250, while the role is killed at random
moments and hops cut at random steps: nothing is lost, and nothing is doubled
but what a hop took at the moment of a kill or a cut."""

import os
import random
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from smtp_stage import Client, Hop, Role, State  # noqa: E402

BINARY = os.environ.get("SMTP_ROLE", "")
pytestmark = pytest.mark.skipif(not BINARY, reason="SMTP_ROLE is not set")

SENDERS = 4
MESSAGES = 80
KILLS = 15


def send_until_taken(port, sender, number, rcpts):
    """As a sending server does: those who were refused for now again later."""
    left = list(rcpts)
    tries = 0
    while left:
        tries += 1
        assert tries < 300, (sender, number, left)
        try:
            c = Client(port())
            said, end = c.deliver(f"{sender}@y.example", left,
                                  f"Subject: {sender}-{number}\r\n\r\ntext")
            if end[:3] == "250":
                left = [r for r, s in zip(left, said) if s[:3] != "250"]
            assert end[0] != "5" or end[:3] == "554", end
            if random.random() < 0.8:
                c.send("QUIT\r\n")
            c.close()
        except (OSError, EOFError):
            time.sleep(0.05)


def test_kills_and_cuts_lose_nothing(tmp_path):
    random.seed(4)
    state = State(tmp_path / "state")
    legacy, local = Hop(), Hop(lmtp=True)
    for name, answer in (("old", "legacy"), ("old2", "legacy"),
                         ("new", "local"), ("new2", "local")):
        state.table[f"{name}@a.example"] = {
            "answer": answer, "account": len(state.table) + 1,
            "address": f"{name}@a.example", "smtp": legacy.url}
    rcpts = list(state.table)
    role = Role(BINARY, tmp_path, local.url)

    def work(sender):
        for number in range(MESSAGES):
            some = random.sample(rcpts, random.randint(1, 4))
            sent.append((f"{sender}-{number}", some))
            send_until_taken(lambda: role.port, sender, number, some)

    sent = []
    threads = [threading.Thread(target=work, args=(f"s{i}",))
               for i in range(SENDERS)]
    for t in threads:
        t.start()
    breaks = []  # when a double may begin
    kills = 0
    steps = ["mail", "rcpt", "data", "dot", "late-cut", "mixed"]
    while any(t.is_alive() for t in threads):
        time.sleep(random.uniform(0.05, 0.3))
        hop = random.choice([legacy, local])
        step = random.choice(steps)
        if step == "mixed":
            hop.replies = {"dot:new2@a.example": "452 4.2.2 full"}
        elif step == "late-cut":
            hop.replies = {"dot": "late-cut"}
        else:
            hop.replies = {step: None}
        time.sleep(random.uniform(0, 0.05))
        hop.replies = {}
        if step == "late-cut":
            breaks.append(time.time())
        if kills < KILLS and random.random() < 0.4:
            role.kill()
            breaks.append(time.time())
            role.launch()
            kills += 1
    for t in threads:
        t.join()
    doubled = 0
    took = [*zip(legacy.times, legacy.messages),
            *zip(local.times, local.messages)]
    for subject, some in sent:
        mark = f"Subject: {subject}\r\n".encode()
        for rcpt in some:
            times = sorted(at for at, (_, r, body) in took
                           if rcpt in r and mark in body)
            assert times, (subject, rcpt)
            doubled += len(times) - 1
            for at in times[:-1]:
                assert any(-0.2 < stop - at < 0.5 for stop in breaks), \
                    (subject, rcpt, at, breaks)
    print(f"messages={len(sent)} kills={kills} breaks={len(breaks)} "
          f"doubled={doubled}")
    role.stop()
    legacy.close()
    local.close()
    state.close()
    log = (tmp_path / "log").read_text(errors="replace")
    assert "ERROR:" not in log and "runtime error" not in log
