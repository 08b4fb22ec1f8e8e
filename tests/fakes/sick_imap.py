"""An old IMAP server with no extension and one folder, that refuses, cuts,
lies about or leaves out what the test names; every password is right."""

import re
import socket
import socketserver
import threading


def body(uid):
    return f"Subject: {uid}\r\n\r\n{'x' * uid * 100}\r\n".encode()


class Session(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        server = self.server
        server.sessions += 1
        server.sockets.append(self.connection)
        if server.greeting:
            self.say(server.greeting)
            return
        self.say("* OK hello")
        try:
            for line in self.rfile:
                words = line.decode().rstrip().split(" ", 2)
                tag, verb = words[0], words[1].upper()
                server.heard.append(" ".join(words[1:]))
                if verb == "UID":
                    verb = "UID " + words[2].split(" ")[0].upper()
                rest = words[2] if len(words) > 2 else ""
                if not self.answer(tag, verb, rest):
                    return
        except OSError:
            pass

    def answer(self, tag, verb, rest):
        server = self.server
        if verb in server.waits:
            with server.counting:
                server.waiting += 1
            server.waits[verb].wait()
            with server.counting:
                server.waiting -= 1
        if verb in server.answers:
            self.say(f"{tag} {server.answers[verb]}")
            return True
        if verb == "CAPABILITY":
            self.say("* CAPABILITY IMAP4rev1")
        elif verb == "LOGIN" and (server.login or
                                  rest.split('"')[1] in server.logins):
            self.say(f"{tag} " + (server.login or
                                  server.logins[rest.split('"')[1]]))
            return True
        elif verb == "LIST":
            self.say('* LIST () "/" INBOX')
        elif verb == "STATUS":
            self.say(f"* STATUS INBOX (MESSAGES {len(server.uids)} UIDNEXT "
                     f"{server.uidnext} UIDVALIDITY {server.uidvalidity})")
        elif verb == "EXAMINE":
            self.say(f"* {len(server.uids)} EXISTS")
            self.say(f"* OK [UIDVALIDITY {server.uidvalidity}] here")
            self.say(f"* OK [UIDNEXT {server.uidnext}] next")
        elif verb == "UID SEARCH":
            self.say("* SEARCH " + " ".join(map(str, server.uids)))
        elif verb == "UID FETCH":
            return self.fetch(tag, rest)
        elif verb not in ("LSUB", "LOGIN", "LOGOUT", "NOOP", "CLOSE"):
            self.say(f"{tag} BAD what")
            return True
        self.say(f"{tag} OK done")
        return verb != "LOGOUT"

    def fetch(self, tag, rest):
        uids = set()
        for part in rest.split(" ")[1].split(","):
            first, _, last = part.partition(":")
            uids |= set(range(int(first), int(last or first) + 1))
        for uid in sorted(uids & set(self.server.uids)):
            fault = self.server.fault.get(uid)
            head = (f"* {uid} FETCH (UID {uid} FLAGS (\\Seen) INTERNALDATE "
                    f'"01-Feb-2020 10:00:00 +0000" '
                    f"RFC822.SIZE {len(body(uid))}")
            if "BODY" not in rest:
                self.say(head + ")")
            elif fault == "left out":
                pass
            elif fault == "empty":
                self.say(head + ' BODY[] "")')
            elif fault == "nil":
                self.say(head + " BODY[] NIL)")
            elif fault == "refused":
                self.say(f"{tag} NO cannot read this one")
                return True
            elif fault == "bad":
                self.say(f"{tag} BAD cannot parse this one")
                return True
            elif fault == "cut":
                self.wfile.write(f"{head} BODY[] {{{len(body(uid))}}}\r\n"
                                 .encode() + body(uid)[:20])
                return False
            elif fault == "throttled":
                self.say(f"{tag} NO [THROTTLED] come back")
                return True
            else:
                data = body(uid)
                if fault == "size lies":
                    head = re.sub(r"SIZE \d+", "SIZE 5", head)
                self.wfile.write(f"{head} BODY[] {{{len(data)}}}\r\n".encode()
                                 + data + b")\r\n")
        self.say(f"{tag} OK done")
        return True


class SickImap(socketserver.ThreadingTCPServer):
    """fault: {uid: what is wrong with its body}; answers: {command: what is
    said instead}; login: the answer to every LOGIN; logins: {user: the
    answer to his}; greeting: said instead of
    everything else. uids may grow."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, uids=range(1, 21), port=0):
        super().__init__(("127.0.0.1", port), Session)
        self.fault, self.answers, self.heard = {}, {}, []
        self.sessions, self.login, self.greeting = 0, None, None
        self.logins = {}
        self.sockets = []
        self.waits, self.waiting = {}, 0
        self.counting = threading.Lock()
        self.uids, self.uidvalidity = list(uids), 77
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,),
                         daemon=True).start()

    @property
    def uidnext(self):
        return max(self.uids, default=0) + 1

    def close(self):
        """And every session of it."""
        self.shutdown()
        self.server_close()
        for one in self.sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
