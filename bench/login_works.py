"""The works about logins: on the local Dovecot, and all clients at once."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "scripts"))

from devservers.processes import descendants  # noqa: E402
from devservers.world import Settings, World  # noqa: E402

USERS = int(os.environ.get("USERS", "200"))
CLIENTS = int(os.environ.get("CLIENTS", "10000"))
AT_ONCE = 20
SECONDS = 5
TICK = os.sysconf("SC_CLK_TCK")

# One process serves many: 10,000 would be too many for this machine.
CROWDED = """
service imap {
  service_count = 0
  client_limit = %d
}
service pop3 {
  service_count = 0
  client_limit = %d
}
service imap-login {
  client_limit = 20000
}
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


def cpu_s(pids):
    """Of processes and all below them."""
    total = 0
    for pid in pids:
        for one in [pid] + [p for p, _ in descendants(pid)]:
            try:
                stat = Path(f"/proc/{one}/stat").read_text()
            except OSError:
                continue
            # those that have ended count with who has waited for them
            total += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return total / TICK


class Moved:
    """The servers of scripts/dev-up with USERS accounts that live on local."""

    def __init__(self, clients_a_process, **settings):
        self.folder = tempfile.mkdtemp(prefix="mh-bench-", dir="/tmp")
        os.chmod(self.folder, 0o755)
        self.world = World.choose(Settings(
            folder=self.folder + "/w", more_users=USERS, hash_cost=5000,
            workers=8, delta_seconds=1, trail_seconds=86400,
            trail_inbox_seconds=86400,
            local_conf=CROWDED % (clients_a_process, clients_a_process),
            **settings))
        self.world.configure()
        self.world.start_servers()
        self.world.node.cli("init")
        self.world.add_domain()
        self.world.run_node()
        self.run("once", "imap", "mailhaul", USERS, AT_ONCE)
        self._await_moved()

    def _await_moved(self):
        limit = time.monotonic() + 600
        while True:
            text = self.world.node.cli("--json", "account", "list")
            rows = json.loads(text)["accounts"]
            if len(rows) == USERS and all(r["route"] == "local"
                                          for r in rows):
                break
            if time.monotonic() > limit:
                raise SystemExit("bench: the accounts do not move")
            time.sleep(1)
        time.sleep(5)  # the first looks at what came late

    def port(self, protocol, side):
        ports = self.world.own if side == "mailhaul" else self.world.local
        return ports[protocol]

    def argv(self, mode, protocol, side, *numbers):
        return [str(TOP / "build" / "logins"), mode, protocol,
                str(self.port(protocol, side)), *map(str, numbers)]

    def run(self, mode, protocol, side, *numbers):
        """Its rate, and the CPU seconds of the servers for 1,000 logins."""
        pids = [self.world.records.pid(n)
                for n in ("mailhauld", "local-dovecot")]
        before, began = cpu_s(pids), time.monotonic()
        done = subprocess.run(self.argv(mode, protocol, side, *numbers),
                              capture_output=True, text=True, check=False)
        took = time.monotonic() - began
        if done.returncode != 0 or "failed=0" not in done.stdout:
            raise SystemExit(f"bench: logins: {done.stdout}{done.stderr}")
        rate = float(done.stdout.split()[0])
        used = cpu_s(pids) - before
        return {"wall_s": 1000 / rate,
                "cpu_s": used / (rate * took) * 1000}

    def restart(self):
        """Kill mailhauld with all its processes, and start it again."""
        self.world.stop("mailhauld", number=signal.SIGKILL)
        self.world.run_node()

    def down(self):
        self.world.stop_all()
        subprocess.run(["rm", "-rf", self.folder], check=False)


def median_of(runs):
    return {key: round(statistics.median(r[key] for r in runs), 4)
            for key in runs[0]}


def local(rounds):
    """For 1,000 logins: again and again, the first ones, and on Dovecot."""
    moved = Moved(50)
    tools = {}
    try:
        for protocol, ending in (("imap", ""), ("pop3", "-pop3")):
            seen = {"mailhaul": [], "dovecot": [], "first": []}
            for number in range(rounds):
                moved.restart()  # with an empty memory
                seen["first"].append(moved.run("once", protocol, "mailhaul",
                                               USERS, AT_ONCE))
                for tool, side in (("mailhaul", "mailhaul"),
                                   ("dovecot", "local")):
                    seen[tool].append(moved.run("rate", protocol, side, USERS,
                                                AT_ONCE, SECONDS))
                say(f"  {number + 1}/{rounds} {protocol} " + " ".join(
                    f"{tool} {1000 / runs[-1]['wall_s']:.0f}/s"
                    for tool, runs in seen.items()))
            tools.update({t + ending: median_of(r) for t, r in seen.items()})
        return tools
    finally:
        moved.down()


def storm(rounds):
    """All clients come back after kill -9 of everything: until all are in."""
    moved = Moved(200)
    clients = subprocess.Popen(
        moved.argv("storm", "imap", "mailhaul", USERS, CLIENTS, 3600),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    times = []
    try:
        say(f"  {clients.stdout.readline().strip()}")
        for _ in range(rounds):
            time.sleep(3)
            moved.restart()
            line = clients.stdout.readline().strip()
            say(f"  {line}")
            if "refused=0" not in line:
                raise SystemExit("bench: somebody heard \"wrong password\"")
            times.append(float(line.split()[1]))
        return {"mailhaul": {"wall_s": round(statistics.median(times), 2)}}
    finally:
        clients.stdin.close()
        clients.wait()
        moved.down()
