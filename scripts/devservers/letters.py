"""Messages that look like life, and like what life does to messages."""

import base64
import random
from email.utils import formatdate

WORDS = ("Angebot Besprechung Rechnung invoice meeting offer re: fwd: urgent "
         "Grüße müssen schön weiß naïve café łódź Привет 日本語 report minutes "
         "holiday ticket order travel project customer server backup").split()
PEOPLE = ("Alice <alice@example.test>", "Bob <bob@example.test>",
          '"Möller, Jörg" <joerg@example.org>', "news@lists.example.com",
          "=?utf-8?q?Ren=C3=A9?= <rene@example.net>", "<>", "root")
LARGEST = 10 * 1024 * 1024


class Writer:
    """Yields messages as they would lie in a Maildir (lines end in LF,
    sometimes in CRLF). Same seed, same messages."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.noise = self.random.randbytes(1 << 20)
        self.noise64 = base64.encodebytes(self.noise)
        self.last_id = None

    def words(self, count):
        return " ".join(self.random.choices(WORDS, k=count))

    def text(self, size):
        lines, length = [], 0
        while length < size:
            line = self.words(9).encode()
            lines.append(line)
            length += len(line) + 1
        return b"\n".join(lines)[:size] + b"\n"

    def header(self, date, kind=b"text/plain; charset=utf-8"):
        r = self.random
        subject = self.words(4)
        if r.random() < 0.5:  # as the standards want it; otherwise raw 8 bits
            coded = base64.b64encode(subject.encode()).decode()
            subject = f"=?utf-8?b?{coded}?="
        message_id = f"<{r.getrandbits(64):x}@example.test>"
        if self.last_id and r.random() < 0.01:
            message_id = self.last_id
        self.last_id = message_id
        rows = [f"Received: from mx.example.test by legacy; "
                f"{formatdate(date)}",
                f"From: {r.choice(PEOPLE)}", f"To: {r.choice(PEOPLE)}",
                f"Subject: {subject}", f"Date: {formatdate(date)}"]
        if r.random() > 0.02:
            rows.append(f"Message-ID: {message_id}")
        if r.random() < 0.2:
            rows.append("References: " + "\n ".join(
                f"<{r.getrandbits(64):x}@example.test>" for _ in range(9)))
        rows.append("MIME-Version: 1.0")
        return ("\n".join(rows) + "\nContent-Type: ").encode() + kind + b"\n\n"

    def _attachment(self, size):
        start = 77 * self.random.randrange(1000)
        piece = self.noise64[start:start + 77 * 9000]
        return (piece * (size // len(piece) + 1))[:size // 77 * 77 + 77]

    def letter(self, date, size):
        """An ordinary one of about `size` bytes."""
        if size < 30000:
            return self.header(date) + self.text(max(size - 500, 1))
        mark = b"part%x" % self.random.getrandbits(64)
        return b"".join((
            self.header(date, b'multipart/mixed; boundary="%b"' % mark),
            b"This is a multi-part message.\n--", mark,
            b"\nContent-Type: text/plain; charset=utf-8\n\n", self.text(900),
            b"--", mark, b"\nContent-Type: application/octet-stream\n"
            b"Content-Transfer-Encoding: base64\n"
            b'Content-Disposition: attachment; filename="\xc3\xbc.bin"\n\n',
            self._attachment(size - 1500), b"\n--", mark, b"--\n"))

    def oddities(self, date):
        """One of each kind that has broken a mail program."""
        head = self.header(date)
        twin = self.letter(date, 2000)
        yield b""
        yield b"\n"
        yield head
        yield head.rstrip(b"\n")
        yield b"no header at all, only a line\n"
        yield b"From bob@example.test Mon Jan  1 00:00:00 2001\n" + head + b"x\n"
        yield twin
        yield twin
        yield b"Subject: \xfc\xe4\xf6 in Latin-1\nFrom: J\xf6rg\n\n\xdf\xa4\n"
        yield "Subject: Grüße\nX-Roh: łódź 日本語\n\nRohes UTF-8\n".encode()
        yield head + b"x" * 200000 + b"\nafter a very long line\n"
        yield b"X-Long: " + b"y" * 70000 + b"\n" + head + b"long header\n"
        yield b"Subject: folded\n  " + b"\n\t ".join([b"word"] * 500) + b"\n\nx\n"
        yield head + b"bare CR \r in a line\rand again\r\r\n"
        yield head.replace(b"\n", b"\r\n") + b"CRLF here\r\nLF there\nboth\r\n"
        yield head + b"no newline at the end"
        yield head + b".\n..\n.leading dots\n.\n"
        yield head + b"\r\n.\r\nand what looks like the end of DATA\r\n"
        yield head + b"form feed \f, tab \t, escape \x1b[31m, DEL \x7f\n"
        yield head + b"* 1 EXISTS\n) a001 OK done\n{100}\n"
        yield b"Date: yesterday, perhaps\nFrom: @@@\nTo: ,,,\n\nodd dates\n"
        yield b"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nunbound\n"
        yield self.header(date, b"message/rfc822") + self.letter(date, 3000)
        yield self.letter(date, 6000).replace(b"\n", b"\r\n")
