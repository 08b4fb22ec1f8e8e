"""The processes of one directory: recorded by pid and start time, so that
only our own are ever signalled, however late we come."""

import json
import os
import signal
import subprocess
import tempfile
import time


def start_time(pid):
    """Ticks since boot at which the process began; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def descendants(pid):
    """(pid, start time) of all processes below this one."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as f:
                parent = int(f.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry))
    found, waiting = [], [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append((child, start_time(child)))
            waiting.append(child)
    return found


class Records:
    """The file DIR/pids: {name: [pid, start time]}."""

    def __init__(self, path):
        self.path = path

    def all(self):
        try:
            with open(self.path) as f:
                return {name: tuple(row) for name, row in json.load(f).items()}
        except FileNotFoundError:
            return {}

    def _write(self, rows):
        part = f"{self.path}.part"
        with open(part, "w") as f:
            json.dump(rows, f)
        os.rename(part, self.path)

    def add(self, name, pid):
        self._write({**self.all(), name: (pid, start_time(pid))})

    def pid(self, name):
        """Of a running process, else None."""
        pid, began = self.all().get(name, (None, None))
        return pid if pid and began and start_time(pid) == began else None

    def send(self, name, number):
        pid = self.pid(name)
        if pid:
            os.kill(pid, number)
        return pid

    def stop(self, *names, number=signal.SIGTERM, wait_s=15):
        """End them and all below them; those that do not go are killed."""
        family = []
        for pid in filter(None, map(self.pid, names)):
            family += [(pid, start_time(pid))] + descendants(pid)
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, number)
        _await_end(family, wait_s)
        rows = self.all()
        self._write({n: row for n, row in rows.items() if n not in names})


def pid_from_file(path, wait_s=10):
    """Of a daemon that writes it a moment after its parent has ended."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        try:
            return int(path.read_text())
        except (FileNotFoundError, ValueError):
            time.sleep(0.01)
    raise OSError(f"{path} was not written, see the log beside it")


def _alive(family):
    return [(p, t) for p, t in family if t is not None and start_time(p) == t]


def _await_end(family, wait_s):
    deadline = time.monotonic() + wait_s
    while _alive(family):
        _reap(family)
        if time.monotonic() > deadline:
            for pid, _ in _alive(family):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            deadline = time.monotonic() + wait_s
        time.sleep(0.02)
    _reap(family)


def _reap(family):
    for pid, _ in family:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass


def daemonize(argv, wait_s=90):
    """Run a program that goes into the background; what it said before. Its
    output goes to a file: a daemon that keeps a pipe would hold us up."""
    with tempfile.TemporaryFile("w+") as said:
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=said,
                                  stderr=said, timeout=wait_s)
        except subprocess.TimeoutExpired as late:
            raise OSError(f"{argv[0]}: not up after {wait_s} s") from late
        said.seek(0)
        text = said.read().strip()
    if done.returncode != 0:
        raise OSError(f"{argv[0]}: {text}")
    return text
