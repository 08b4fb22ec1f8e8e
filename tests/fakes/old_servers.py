"""Old mail servers of straw: as much of IMAP and POP3 as a login needs, with
every quirk and fault that a test asks for. Each remembers what it heard."""

import base64
import re
import socket
import ssl
import threading

INBOX = ["* FLAGS (\\Seen)", "* 0 EXISTS", "* 0 RECENT",
         "* OK [UIDVALIDITY 7] x", "* OK [UIDNEXT 1] x"]


class Gone(Exception):
    """The peer or the test ended the connection."""


class Peer:
    """One connection, with the bytes that came over it."""

    def __init__(self, server, sock):
        self.server, self.sock, self.pending = server, sock, b""
        self.heard = b""
        self.is_tls = False

    def send(self, raw):
        try:
            self.sock.sendall(raw.encode() if isinstance(raw, str) else raw)
        except OSError as e:
            raise Gone from e

    def line(self, text):
        self.send((text.encode() if isinstance(text, str) else text) + b"\r\n")

    def _more(self):
        try:
            got = self.sock.recv(65536)
        except OSError as e:
            raise Gone from e
        if not got:
            raise Gone
        self.heard += got
        self.pending += got

    def read_line(self):
        while b"\n" not in self.pending:
            self._more()
        line, _, self.pending = self.pending.partition(b"\n")
        return line.rstrip(b"\r")

    def read_bytes(self, count):
        while len(self.pending) < count:
            self._more()
        raw, self.pending = self.pending[:count], self.pending[count:]
        return raw

    def start_tls(self):
        try:
            self.sock = self.server.context.wrap_socket(self.sock,
                                                        server_side=True)
        except OSError as e:
            raise Gone from e
        self.pending, self.is_tls = b"", True

    def stall(self):
        """Say nothing until the peer goes or the server ends."""
        while True:
            self._more()

    def close(self):
        raise Gone


class OldServer:
    """Listens on a loopback port of its own; talk(peer) in a thread for each
    connection. cert: the path of a .pem with a .key beside it."""

    def __init__(self, cert=None, implicit=False):
        self.implicit = implicit
        self.context = None
        if cert:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(str(cert),
                                         str(cert).replace(".pem", ".key"))
        self.peers = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            peer = Peer(self, sock)
            self.peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,),
                             daemon=True).start()

    def _serve(self, peer):
        try:
            if self.implicit:
                peer.start_tls()
            self.talk(peer)
        except (Gone, OSError):
            pass
        finally:
            peer.sock.close()

    def talk(self, peer):
        raise NotImplementedError

    @property
    def heard(self):
        """All bytes of all clients, of TLS those inside."""
        return b"".join(peer.heard for peer in self.peers)

    def has_heard(self, text):
        """In clear, or in anything that looks like base64."""
        raw = text.encode() if isinstance(text, str) else text
        heard = self.heard
        return raw in heard or any(
            raw in decoded(word)
            for word in re.findall(rb"[A-Za-z0-9+/=]{8,}", heard))

    def close(self):
        """A second time does nothing."""
        if self.listener.fileno() != -1:
            # close() alone leaves a thread in accept(), which takes one more
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        for peer in self.peers:
            try:
                peer.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def text(raw):
    return raw.decode(errors="surrogateescape")


def decoded(word):
    try:
        return base64.b64decode(word + b"=" * (-len(word) % 4))
    except ValueError:
        return b""


WORD = re.compile(rb' *(?:"((?:[^"\\]|\\.)*)"|\{(\d+)(\+?)\}$|([^ "{]+))')


class OldImap(OldServer):
    """capabilities: said when asked, and in the greeting if greeting is None.
    passwords: {user: password}; hooks, each answers the text behind the tag:
    on_login(peer, user, password), and answers {command: text} for others
    ("EXAMINE": "NO ..."). before: untagged lines before the answer to a
    login."""

    def __init__(self, passwords=None, capabilities="IMAP4rev1 SASL-IR "
                 "AUTH=PLAIN LITERAL+", greeting=None, before=(), answers=None,
                 on_login=None, talks=None, **kwargs):
        self.passwords = passwords or {}
        self.capabilities, self.greeting = capabilities, greeting
        self.before, self.answers = before, answers or {}
        self.on_login = on_login or self._check
        self.talks = talks
        self.logins = []  # (how, user, password, is_tls) as heard
        super().__init__(**kwargs)

    def talk(self, peer):
        if self.talks:
            self.talks(peer)
            return
        peer.line(self.greeting or
                  f"* OK [CAPABILITY {self.capabilities}] old server")
        while True:
            tag, verb, words = self._command(peer)
            self._answer(peer, tag, verb, words)

    @staticmethod
    def _command(peer):
        line = peer.read_line()
        tag, _, rest = line.partition(b" ")
        verb, _, rest = rest.partition(b" ")
        words = []
        while rest:
            m = WORD.match(rest)
            if not m:
                words.append(rest)
                break
            rest = rest[m.end():]
            if m[2] is not None:
                if not m[3]:
                    peer.line("+ go on")
                words.append(peer.read_bytes(int(m[2])))
                rest = peer.read_line()
            elif m[1] is not None:
                words.append(re.sub(rb"\\(.)", rb"\1", m[1]))
            else:
                words.append(m[4])
        return tag.decode(), verb.decode().upper(), words

    def _answer(self, peer, tag, verb, words):
        if verb in self.answers:
            answer = self.answers[verb]
            peer.line(f"{tag} {answer}" if isinstance(answer, str)
                      else answer(peer, tag) or f"{tag} OK done")
        elif verb == "CAPABILITY":
            peer.line(f"* CAPABILITY {self.capabilities}")
            peer.line(f"{tag} OK done")
        elif verb == "STARTTLS":
            peer.line(f"{tag} OK begin")
            peer.start_tls()
        elif verb == "LOGIN":
            self._login(peer, tag, "LOGIN", *words[:2])
        elif verb == "AUTHENTICATE":
            self._authenticate(peer, tag, words)
        elif verb in ("EXAMINE", "SELECT"):
            for line in INBOX:
                peer.line(line)
            peer.line(f"{tag} OK [READ-ONLY] done")
        elif verb == "NAMESPACE":
            peer.line('* NAMESPACE (("" "/")) NIL NIL')
            peer.line(f"{tag} OK done")
        elif verb == "LOGOUT":
            peer.line("* BYE")
            peer.line(f"{tag} OK done")
            peer.close()
        else:
            peer.line(f"{tag} OK done")

    def _authenticate(self, peer, tag, words):
        if words[0].upper() != b"PLAIN" or "AUTH=PLAIN" not in \
                self.capabilities:
            peer.line(f"{tag} NO [CANNOT] unknown mechanism")
            return
        how = "PLAIN initial"
        if len(words) == 1:
            peer.line("+ ")
            words.append(peer.read_line())
            how = "PLAIN"
        self._login(peer, tag, how, *decoded(words[1]).split(b"\0")[1:])

    def _login(self, peer, tag, how, user, password):
        user, password = text(user), text(password)
        self.logins.append((how, user, password, peer.is_tls))
        for line in self.before:
            peer.line(line)
        peer.line(f"{tag} {self.on_login(peer, user, password)}")

    def _check(self, _, user, password):
        if self.passwords.get(user) == password:
            return "OK logged in"
        return "NO [AUTHENTICATIONFAILED] old server says no"


class OldPop3(OldServer):
    """Like OldImap. answers: {command: whole line}."""

    def __init__(self, passwords=None, answers=None, on_login=None, talks=None,
                 has_user=True, **kwargs):
        self.passwords, self.answers = passwords or {}, answers or {}
        self.on_login, self.talks = on_login or self._check, talks
        self.has_user = has_user
        self.logins = []
        super().__init__(**kwargs)

    def talk(self, peer):
        if self.talks:
            self.talks(peer)
            return
        user = b""
        peer.line("+OK old server")
        while True:
            verb, _, rest = peer.read_line().partition(b" ")
            verb = verb.decode().upper()
            if verb in self.answers:
                answer = self.answers[verb]
                peer.line(answer if isinstance(answer, str)
                          else answer(peer) or "+OK")
            elif verb == "USER":
                user = rest
                peer.line("+OK" if self.has_user else "-ERR unknown command")
            elif verb == "PASS":
                self._login(peer, "USER", user, rest)
            elif verb == "AUTH":
                peer.line("+ ")
                words = decoded(peer.read_line()).split(b"\0")
                self._login(peer, "PLAIN", *words[1:])
            elif verb == "STLS":
                peer.line("+OK begin")
                peer.start_tls()
            elif verb == "QUIT":
                peer.line("+OK")
                peer.close()
            else:
                peer.line("+OK 0 0" if verb == "STAT" else "+OK")

    def _login(self, peer, how, user, password):
        user, password = text(user), text(password)
        self.logins.append((how, user, password, peer.is_tls))
        peer.line(self.on_login(peer, user, password))

    def _check(self, _, user, password):
        if self.passwords.get(user) == password:
            return "+OK logged in"
        return "-ERR [AUTH] old server says no"
