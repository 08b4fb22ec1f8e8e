"""Free ports on loopback, below the range the kernel hands to clients."""

import random
import socket

LOWEST, HIGHEST = 20000, 32000


class Reservation(dict):
    """name -> port. Nobody else's pick() gives these ports out while it is
    held, also not between a server's end and its next start."""

    def __init__(self, names, first):
        super().__init__((n, first + i) for i, n in enumerate(names))
        self._sockets = []
        try:
            for port in self.values():
                self._sockets.append(_bound(port))
        except OSError:
            self.release()
            raise

    def release(self):
        for held in self._sockets:
            held.close()
        self._sockets = []


def _bound(port):
    """A socket that keeps others from binding the port exclusively, as this
    does, and no server from listening there."""
    held = socket.socket()
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        raise
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held


def pick(names):
    """A Reservation of free ports."""
    while True:
        first = random.randrange(LOWEST, HIGHEST - len(names))
        try:
            return Reservation(names, first)
        except OSError:
            pass


def answers(port, wait_s=0.5, banner=True):
    """True if something accepts on the port (and greets, unless banner is
    False: implicit TLS does not)."""
    try:
        with socket.create_connection(("127.0.0.1", port), wait_s) as s:
            s.settimeout(wait_s)
            return not banner or bool(s.recv(1))
    except OSError:
        return False
