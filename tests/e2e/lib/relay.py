"""A TCP relay that counts: how much a real client pulls."""

import socket
import threading


class CountingRelay:
    """Listens on a port of its own and passes on to `port`."""

    def __init__(self, port):
        self.target = port
        self.to_client = self.to_server = self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for source, sink, name in ((client, server, "to_server"),
                                       (server, client, "to_client")):
                threading.Thread(target=self._pump, daemon=True,
                                 args=(source, sink, name)).start()

    def _pump(self, source, sink, name):
        try:
            while raw := source.recv(65536):
                setattr(self, name, getattr(self, name) + len(raw))
                sink.sendall(raw)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for s in (source, sink):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.listener.close()
