"""The pieces of a dialogue test of the smtp role: a state process, next hops
that refuse, stall and cut, and a client that speaks raw bytes."""

import json
import os
import socket
import socketserver
import struct
import subprocess
import threading
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, seconds=5):
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


class State:
    """Answers ask by a table name -> answer fields; sends holds."""

    def __init__(self, path):
        self.table = {}
        self.heard = []
        self.asked = []
        self.waiting = {}
        self.held = set()
        self.peers = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.peers.append(peer)
            threading.Thread(target=self.serve, args=(peer,),
                             daemon=True).start()

    def close(self):
        self.listener.close()
        for peer in self.peers:
            peer.close()

    def send(self, message, peer=None):
        body = json.dumps(message).encode()
        (peer or self.peers[-1]).sendall(struct.pack(">I", len(body)) + body)

    def answer(self, number, name, peer):
        fields = self.table.get(name, {"answer": "refuse"})
        self.send({"m": "answer", "id": number, "epoch": 1, **fields}, peer)

    def serve(self, peer):
        try:
            self.listen(peer, peer.makefile("rb"))
        except OSError:
            pass  # the role was killed

    def listen(self, peer, stream):
        while True:
            head = stream.read(4)
            if len(head) < 4:
                return
            message = json.loads(stream.read(struct.unpack(">I", head)[0]))
            self.heard.append(message)
            if message["m"] != "ask":
                continue
            name = message["name"].lower()
            self.asked.append(name)
            account = self.table.get(name, {}).get("account")
            if account in self.held:
                self.waiting[message["id"]] = (name, peer)
            else:
                self.answer(message["id"], name, peer)

    def hold(self, account, epoch=2):
        self.held.add(account)
        self.send({"m": "hold", "account": account, "epoch": epoch,
                   "quiet_within_ms": 5000})

    def release(self, account, epoch=3):
        self.held.discard(account)
        self.send({"m": "release", "account": account, "epoch": epoch})
        for number, (name, peer) in list(self.waiting.items()):
            self.answer(number, name, peer)
        self.waiting.clear()

    def quiets(self, account):
        return [m for m in self.heard
                if m["m"] == "quiet" and m["account"] == account]


class Hop:
    """A next hop in Python. `replies` maps a step (banner, ehlo, mail, rcpt,
    data, dot, or "rcpt:ADDRESS", "dot:ADDRESS") to a reply, a number of
    seconds to wait before the good one, or None: cut. Keeps what it took."""

    def __init__(self, lmtp=False, **replies):
        self.lmtp = lmtp
        self.replies = replies
        self.messages = []   # (sender, [recipients], bytes) with a good verdict
        self.times = []      # when it took each of them
        self.sessions = 0
        self.lines = []
        self.partial = []    # texts that never ended
        self.gate = threading.Event()  # "wait" holds a step until it is set
        hop = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                try:
                    hop.talk(self)
                except (Cut, OSError):
                    pass

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0),
                                                      Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever,
                         kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self):
        return f"{'lmtp' if self.lmtp else 'smtp'}://127.0.0.1:{self.port}"

    def close(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    def say(self, h, step, good, key=None):
        reply = self.replies.get(f"{step}:{key}", self.replies.get(step, good))
        if reply == "wait":
            self.gate.wait(20)
            reply = good
        if reply == "late-cut":  # the verdict is made, its reply is lost
            raise Cut
        if reply is None:
            raise Cut
        h.wfile.write(reply.replace("\n", "\r\n").encode() + b"\r\n")
        h.wfile.flush()
        return reply[0] in "23"

    def text(self, h):
        body = b""
        while True:
            line = h.rfile.readline()
            if not line.endswith(b"\n"):
                self.partial.append(body + line)
                raise Cut
            if line == b".\r\n":
                return body
            body += line[1:] if line.startswith(b".") else line
            if "text" in self.replies:
                self.replies["text"](self, h, body)

    def verdicts(self, h, sender, rcpts, body):
        groups = [[r] for r in rcpts] if self.lmtp else [rcpts]
        for group in groups:
            key = group[0]
            reply = self.replies.get(f"dot:{key}", self.replies.get("dot", "2"))
            if reply is not None and reply[0] not in "45":
                self.messages.append((sender, group, body))
                self.times.append(time.time())
            self.say(h, "dot", "250 2.0.0 taken", key)

    def talk(self, h):
        self.sessions += 1
        self.say(h, "banner", "220 hop")
        sender, rcpts = None, []
        while True:
            line = h.rfile.readline().decode("latin-1").rstrip("\r\n")
            self.lines.append(line)
            word = line[:4].upper()
            if word in ("EHLO", "LHLO"):
                self.say(h, "ehlo", "250-hop\n250-SIZE 1000000\n"
                         "250-8BITMIME\n250 PIPELINING")
            elif word == "MAIL":
                if self.say(h, "mail", "250 2.1.0 ok"):
                    sender, rcpts = line[line.index("<") + 1:
                                         line.index(">")], []
            elif word == "RCPT":
                address = line[line.index("<") + 1:line.rindex(">")]
                if self.say(h, "rcpt", "250 2.1.5 ok", address):
                    rcpts.append(address)
            elif word == "DATA":
                if self.say(h, "data", "354 go"):
                    self.verdicts(h, sender, rcpts, self.text(h))
                    sender, rcpts = None, []
            elif word == "RSET":
                sender, rcpts = None, []
                h.wfile.write(b"250 ok\r\n")
            elif word == "QUIT":
                h.wfile.write(b"221 bye\r\n")
                return
            else:
                return

    def copies(self, recipient):
        return sum(r.count(recipient) for _, r, _ in self.messages)


class Cut(Exception):
    pass


class Client:
    def __init__(self, port, hello="EHLO client.example"):
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.stream = self.socket.makefile("rb")
        self.greeting = self.reply()
        if hello:
            self.hello = self.cmd(hello)

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def reply(self):
        lines = []
        while True:
            line = self.stream.readline().decode()
            if not line:
                raise EOFError(lines)
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    def cmd(self, line):
        self.send(line + "\r\n")
        return self.reply()

    def deliver(self, sender, rcpts, body):
        """Replies to RCPT, and the last one (None when DATA had no leave)."""
        assert self.cmd(f"MAIL FROM:<{sender}>")[0] == "2"
        said = [self.cmd(f"RCPT TO:<{r}>") for r in rcpts]
        start = self.cmd("DATA")
        if start[0] != "3":
            return said, start
        self.send(body + "\r\n.\r\n")
        return said, self.reply()

    def close(self):
        self.stream.close()
        self.socket.close()


class Role:
    def __init__(self, binary, folder, local, **options):
        self.port = free_port()
        self.folder = folder
        self.local = local
        self.binary = binary
        self.options = options
        self.log = open(folder / "log", "ab")
        self.process = None
        self.start()

    def start(self):
        """Others may have taken the port meanwhile: then another one."""
        for _ in range(5):
            self.launch()
            if wait_for(self.answers, 10):
                return
            self.kill()
            self.port = free_port()
        raise AssertionError("the role does not start")

    def launch(self):
        o = self.options
        args = [self.binary, str(self.port), str(self.folder / "state"),
                self.local, str(self.folder / "journal"), "mx1.a.example",
                str(o.get("size", 0)), "lmtp" if o.get("lmtp") else "smtp"]
        args += [str(p) for p in o.get("tls", ())]
        self.process = subprocess.Popen(
            args, stderr=self.log,
            env={**os.environ, "SMTP_ROLE_DEBUG": "1",
                 "ASAN_OPTIONS": "quarantine_size_mb=1"})

    def answers(self):
        if self.process.poll() is not None:
            return False
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(20)
