"""A disk of its own, that can be filled, for one folder."""

import os
import subprocess


class SmallDisk:
    """A tmpfs over `folder`, whose owner and mode it takes on."""

    def __init__(self, folder, size_mb):
        self.folder = folder
        was = folder.stat()
        self._mount("-t", "tmpfs", "-o", f"size={size_mb}m", "none")
        os.chown(folder, was.st_uid, was.st_gid)
        os.chmod(folder, was.st_mode & 0o7777)

    def _mount(self, *args):
        subprocess.run(["mount", *args, str(self.folder)], check=True)

    def resize(self, size_mb):
        self._mount("-o", f"remount,size={size_mb}m")

    def resize_inodes(self, count):
        self._mount("-o", f"remount,nr_inodes={count}")

    def fill(self):
        """To the last byte."""
        with open(self.folder / "filler", "ab", buffering=0) as f:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        f.write(b"x" * size)
                except OSError:
                    pass

    def leave(self, free_mb):
        """Fill it until no more than that is free."""
        now = os.statvfs(self.folder)
        surplus = now.f_bavail * now.f_frsize - (free_mb << 20)
        with open(self.folder / "filler", "ab") as f:
            os.posix_fallocate(f.fileno(), 0, surplus)

    def empty(self):
        (self.folder / "filler").unlink()

    def close(self):
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
