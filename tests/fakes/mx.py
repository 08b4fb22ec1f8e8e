"""An old server's port 25 of straw: answers RCPT as it is told, takes no
message. `heard` has every RCPT, `opened` counts the connections."""

import socket
import threading


class Mx:
    """answer: the reply to every RCPT, or a function of the address. With
    cut_after connections end by 421 after so many of them."""

    def __init__(self, answer="550 5.1.1 no such user", banner="220 mx ESMTP",
                 cut_after=None):
        self.answer, self.banner, self.cut_after = answer, banner, cut_after
        self.heard, self.senders, self.opened = [], [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"smtp://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Nothing answers any more. Twice is once."""
        if self.listener.fileno() == -1:
            return
        # a thread in accept() keeps the port open behind close()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.opened += 1
            threading.Thread(target=self._talk, args=(peer,),
                             daemon=True).start()

    def _reply(self, line, count):
        verb = line[:4].upper()
        if verb == "MAIL":
            self.senders.append(line)
        if verb != "RCPT":
            return "221 bye" if verb == "QUIT" else "250 ok"
        if self.cut_after is not None and count > self.cut_after:
            return "421 4.7.0 too many errors"
        address = line[line.index("<") + 1:line.rindex(">")]
        self.heard.append(address)
        return self.answer(address) if callable(self.answer) else self.answer

    def _talk(self, peer):
        count = 0
        with peer, peer.makefile("rwb") as stream:
            try:
                stream.write(self.banner.encode() + b"\r\n")
                stream.flush()
                for raw in stream:
                    line = raw.decode().strip()
                    count += line[:4].upper() == "RCPT"
                    said = self._reply(line, count)
                    stream.write(said.encode() + b"\r\n")
                    stream.flush()
                    if said[:3] in ("221", "421"):
                        return
            except OSError:
                pass
