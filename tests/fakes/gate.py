"""A TCP relay that opens windows: put before a real server it stops a chosen
command or answer of a chosen user, until the test lets it go on or cuts it."""

import base64
import binascii
import re
import socket
import threading
import time

LOGIN = re.compile(rb'(?i)\S+ LOGIN "?([^" ]+)"? ')
USER = re.compile(rb"(?i)^USER (\S+)")
RCPT = re.compile(rb"(?i)^RCPT TO:<([^>]*)>")


def named(line):
    """The user that a line of a client names, or None."""
    for pattern in (LOGIN, USER, RCPT):
        if m := pattern.search(line):
            return m[1].decode(errors="replace").lower()
    try:
        parts = base64.b64decode(line.split()[-1], validate=True).split(b"\0")
    except (IndexError, binascii.Error):
        return None
    return parts[1].decode(errors="replace").lower() if len(parts) == 3 \
        else None


class Stop:
    """One window. wait() until somebody stands in it, then release() or cut().
    Only the first who fits is stopped."""

    def __init__(self, pattern, side, user, when):
        self.pattern = re.compile(pattern)
        self.side, self.user, self.when = side, user, when
        self.reached, self.released = threading.Event(), threading.Event()
        self.is_taken = False
        self.lock = threading.Lock()
        self.connection = None
        self.raw = b""  # what stands in it; may be changed before release()

    def fits(self, connection, side, raw):
        if self.side != side or self.is_taken or (
                self.user and self.user not in connection.users):
            return False
        if not self.pattern.search(raw) or (self.when and not self.when()):
            return False
        with self.lock:
            is_first, self.is_taken = not self.is_taken, True
        return is_first

    def wait(self, wait_s=60):
        assert self.reached.wait(wait_s), f"nobody came: {self.pattern}"
        return self.connection

    def release(self):
        self.is_taken = True  # who comes from now on passes
        self.released.set()

    def cut(self):
        self.connection.close()
        self.release()


class Connection:
    """Both sockets, the users it named, all lines of the client."""

    def __init__(self, gate, client, server):
        self.gate, self.client, self.server = gate, client, server
        self.users, self.heard = set(), bytearray()
        self.is_over = False
        self.speaking = threading.Lock()
        for source, sink, side in ((client, server, "command"),
                                   (server, client, "answer")):
            threading.Thread(target=self._pump, daemon=True,
                             args=(source, sink, side)).start()

    def _pump(self, source, sink, side):
        try:
            while raw := source.recv(65536):
                if side == "command":
                    self._hear(raw)
                for stop in list(self.gate.stops):
                    if stop.fits(self, side, raw):
                        stop.connection, stop.raw = self, raw
                        stop.reached.set()
                        stop.released.wait()
                        raw = stop.raw
                with self.speaking if side == "answer" else self.gate.nobody:
                    sink.sendall(raw)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
        if side == "answer":
            self.is_over = True

    def await_over(self, wait_s=30):
        deadline = time.monotonic() + wait_s
        while not self.is_over:
            assert time.monotonic() < deadline, "the connection stays"
            time.sleep(0.02)

    def _hear(self, raw):
        self.heard += raw
        for line in raw.splitlines():
            if user := named(line):
                self.users.add(user)

    def say(self, raw):
        """To the client, as if the server had said it."""
        with self.speaking:
            self.client.sendall(raw)

    def close(self):
        self.is_over = True
        for s in (self.client, self.server):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class NoLock:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Gate:
    """Listens on `port`, relays to `target` (both on loopback)."""

    def __init__(self, target, host="127.0.0.1"):
        self.target = target
        self.stops, self.all, self.nobody = [], [], NoLock()
        self.listener = socket.create_server((host, 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.is_open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                if not self.is_open:
                    raise OSError
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self.all.append(Connection(self, client, server))

    def stop(self, pattern, user=None, side="command", when=None):
        """Stop the first who, named `user`, sends what fits (side "command")
        or is sent it ("answer") while when() is true."""
        made = Stop(pattern, side, user, when)
        self.stops.append(made)
        return made

    def of(self, user):
        """The live connections of a user, oldest first."""
        return [c for c in self.all if user in c.users and not c.is_over]

    def calm(self):
        """Let everybody go on."""
        self.is_open = True
        for stop in self.stops:
            stop.release()
        self.stops.clear()

    def close(self):
        self.listener.close()
        self.calm()
        for connection in self.all:
            connection.close()
