"""A disk that becomes full at a chosen write of one program (the fake
full_at_write.c): what is preloaded, and the switch."""

import mmap
import struct
import subprocess
from pathlib import Path

SHIM = Path(__file__).resolve().parents[2] / "fakes" / "full_at_write.c"
ROOM = -1


def build_shim(folder):
    built = folder / "full_at_write.so"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-o",
                    built, SHIM, "-ldl"], check=True)
    built.chmod(0o755)
    return built


class FullDisk:
    """word: of the command line of the program that is meant."""

    def __init__(self, folder, shim, word):
        path = folder / "full-control"
        path.write_bytes(bytes(40))
        path.chmod(0o666)
        self.file = open(path, "r+b")
        self.memory = mmap.mmap(self.file.fileno(), 40)
        self.environment = {"LD_PRELOAD": str(shim), "FULL_IN": word,
                            "FULL_CONTROL": str(path)}
        self.make_room()

    def _set(self, *numbers):
        self.memory[:] = struct.pack("<5q", *numbers)

    def make_room(self):
        self._set(ROOM, 0, 0, 0, 0)

    def fill_at(self, number, half=False, once=False):
        """The number-th write from now on finds no room, nor (without once)
        any after it; with half, it still writes half of its bytes."""
        self._set(number, int(half), 0, 0, int(once))

    @property
    def counted(self):
        return struct.unpack("<5q", self.memory)[2]

    @property
    def failed(self):
        return struct.unpack("<5q", self.memory)[3]
