"""Dialogues by hand: lines over a socket, with or without TLS, counted."""

import re
import socket
import ssl


def tls_context(ca_file):
    return ssl.create_default_context(cafile=str(ca_file))


class Wire:
    """A connection whose lines the test writes itself."""

    def __init__(self, port, ca_file=None, implicit=False, wait_s=20):
        self.ca_file = ca_file
        self.sock = socket.create_connection(("127.0.0.1", port), wait_s)
        self.pending = b""
        self.received = self.sent = 0
        if implicit:
            self.start_tls()

    def start_tls(self):
        context = tls_context(self.ca_file)
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")

    def send(self, raw):
        raw = raw.encode() if isinstance(raw, str) else raw
        self.sent += len(raw)
        self.sock.sendall(raw)

    def line(self, text):
        self.send((text.encode() if isinstance(text, str) else text) + b"\r\n")

    def _more(self):
        got = self.sock.recv(65536)
        self.received += len(got)
        self.pending += got
        return bool(got)

    def read_line(self):
        """Without its CR LF; b"" only for an empty line, EOFError at the end."""
        while b"\n" not in self.pending:
            if not self._more():
                raise EOFError(self.pending)
        line, _, self.pending = self.pending.partition(b"\n")
        return line.rstrip(b"\r")

    def read_bytes(self, count):
        while len(self.pending) < count:
            if not self._more():
                raise EOFError(self.pending)
        raw, self.pending = self.pending[:count], self.pending[count:]
        return raw

    def read_to_end(self):
        """What still comes until the peer closes."""
        while self._more():
            pass
        rest, self.pending = self.pending, b""
        return rest

    def is_closed(self, wait_s=0.0):
        """True when the peer has closed and nothing is left to read."""
        self.sock.settimeout(wait_s or 0.001)
        try:
            return not self._more()
        except (TimeoutError, ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True
        finally:
            self.sock.settimeout(20)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


LITERAL = re.compile(rb"\{(\d+)\}$")


class ImapWire(Wire):
    """IMAP by hand: command() sends one and reads to its tagged answer."""

    def __init__(self, port, **kwargs):
        super().__init__(port, **kwargs)
        self.serial = 0
        self.greeting = self.read_response()

    def read_response(self):
        """One response, with its literals inside, as bytes."""
        whole = line = self.read_line()
        while match := LITERAL.search(line):
            whole += b"\r\n" + self.read_bytes(int(match[1]))
            line = self.read_line()
            whole += line
        return whole

    def tag(self):
        self.serial += 1
        return f"t{self.serial}"

    def finish(self, tag):
        """(tagged answer without the tag, untagged responses)."""
        untagged = []
        while True:
            response = self.read_response()
            if response.startswith(tag.encode() + b" "):
                return response[len(tag) + 1:], untagged
            untagged.append(response)

    def command(self, text):
        tag = self.tag()
        self.line(f"{tag} {text}" if isinstance(text, str)
                  else tag.encode() + b" " + text)
        return self.finish(tag)

    def ok(self, text):
        """Untagged responses of a command that must succeed."""
        answer, untagged = self.command(text)
        assert answer.startswith(b"OK"), (text, answer)
        return untagged

    def secure(self):
        self.ok("STARTTLS")
        self.start_tls()
        return self

    def login(self, user, password):
        return self.ok(f'LOGIN "{user}" "{password}"')
