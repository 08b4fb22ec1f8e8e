"""kill -9 of the copy worker at random moments: after one more run the store is
byte for byte what it is without."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dialog"))

from copy_faults_test import BIN, Mailbox  # noqa: E402
from sick_imap import SickImap  # noqa: E402


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in (folder / "Maildir").rglob("*") if path.is_file()}


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_killed_again_and_again_ends_the_same(tmp_path, seed):
    fake = SickImap()
    rnd = random.Random(seed)
    calm = Mailbox(tmp_path / "calm", fake)
    wild = Mailbox(tmp_path / "wild", fake)
    calm.folder.mkdir()
    wild.folder.mkdir()
    began = time.monotonic()
    assert calm.copy()["kind"] == "none"
    took = time.monotonic() - began
    wild.write_job("initial")
    for _ in range(25):
        worker = subprocess.Popen(
            [BIN / "mailhaul-worker", "--job", wild.folder / "job.json"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rnd.random() * took)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    report = wild.copy("delta")
    assert report["kind"] == "none" and report["differences"] == 0
    assert tree(wild.folder) == tree(calm.folder)
    fake.close()
