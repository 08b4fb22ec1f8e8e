"""A POP3 client that leaves mail on the server and remembers UIDLs."""

import hashlib
import poplib
import ssl

poplib._MAXLINE = 50_000_000


def pop3_login(port, user, password, ca_file=None, tls="none", wait_s=20):
    if tls == "implicit":
        context = ssl.create_default_context(cafile=str(ca_file))
        pop = poplib.POP3_SSL("localhost", port, context=context,
                              timeout=wait_s)
    else:
        pop = poplib.POP3("localhost", port, timeout=wait_s)
        if tls == "starttls":
            pop.stls(ssl.create_default_context(cafile=str(ca_file)))
    pop.user(user)
    pop.pass_(password)
    return pop


class Pop3Reader:
    """uidls: in the server's order at the last look; bodies: what each was."""

    def __init__(self):
        self.bodies = {}  # uidl -> sha256
        self.uidls = []

    def collect(self, pop):
        """RETR what is unknown; the UIDLs of that. Ends the session."""
        rows = [row.decode().split(" ", 1) for row in pop.uidl()[1]]
        fresh = []
        for number, uidl in rows:
            if uidl not in self.bodies:
                raw = b"\r\n".join(pop.retr(int(number))[1])
                self.bodies[uidl] = hashlib.sha256(raw).hexdigest()
                fresh.append(uidl)
        self.uidls = [uidl for _, uidl in rows]
        pop.quit()
        return fresh
