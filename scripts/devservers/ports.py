"""Free ports on loopback, below the range the kernel hands to clients."""

import random
import socket

LOWEST, HIGHEST = 20000, 32000


def _is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def pick(names):
    """A dict name -> port. Somebody may still be faster: the servers refuse to
    start then, and the caller picks anew."""
    while True:
        base = random.randrange(LOWEST, HIGHEST - len(names))
        ports = range(base, base + len(names))
        if all(map(_is_free, ports)):
            return dict(zip(names, ports))


def answers(port, wait_s=0.5, banner=True):
    """True if something accepts on the port (and greets, unless banner is
    False: implicit TLS does not)."""
    try:
        with socket.create_connection(("127.0.0.1", port), wait_s) as s:
            s.settimeout(wait_s)
            return not banner or bool(s.recv(1))
    except OSError:
        return False
