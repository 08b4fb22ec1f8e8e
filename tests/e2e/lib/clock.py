"""mailhauld in another time, by libfaketime. Only the time of day: what waits
for seconds waits as long as ever, and files keep their real times."""

import calendar
import contextlib
import os
import time
from pathlib import Path


def utc(text):
    """"2027-03-28 01:00:00" -> Unix seconds."""
    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


def library():
    [path] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return path


@contextlib.contextmanager
def started_at(unix_s):
    """What is started here begins at that time; so do its children."""
    offset = unix_s - time.time()
    wanted = {"LD_PRELOAD": str(library()), "FAKETIME": f"{offset:+.3f}s",
              "NO_FAKE_STAT": "1", "DONT_FAKE_MONOTONIC": "1",
              "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def restart(world, unix_s):
    """mailhauld ends, and starts at that time."""
    world.stop("mailhauld")
    with started_at(unix_s):
        world.run_node()
