"""Somebody who sends mail steadily and keeps account of it."""

import smtplib
import ssl
import threading
import time

MESSAGE = """\
From: <{sender}>\r
To: <{recipient}>\r
Subject: message {serial}\r
Message-ID: <{serial}@sender.test>\r
X-Serial: {serial}\r
\r
This is message {serial}.\r
"""


class Sender(threading.Thread):
    """Sends every interval_s until stop(). Like an MTA it repeats what got a
    4xx or was cut before the dot was answered. accepted: serials that got 250;
    refused: {serial: (code, text)} for 5xx; unsure: serials whose answer to
    DATA was lost and that were sent again; times: {serial: when it was
    accepted, time.monotonic()}."""

    def __init__(self, name, port, sender, recipient, interval_s=0.1,
                 ca_file=None):
        super().__init__(name=name, daemon=True)
        self.port, self.ca_file = port, ca_file
        self.sender, self.recipient = sender, recipient
        self.interval_s = interval_s
        self.accepted, self.refused, self.unsure = [], {}, set()
        self.times = {}
        self.deferred = 0
        self.slowest_s = 0.0
        self.ending = threading.Event()

    def run(self):
        count = 0
        while not self.ending.is_set():
            count += 1
            self._deliver(f"{self.name}-{count:05}")
            self.ending.wait(self.interval_s)

    def stop(self):
        self.ending.set()
        self.join(60)
        assert not self.is_alive(), f"{self.name} hangs"
        return self

    def _deliver(self, serial):
        """Until it is accepted or refused, for a minute at most."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            code, text = self._try(serial)
            if code == 250:
                self.times[serial] = time.monotonic()
                self.accepted.append(serial)
                return
            if 500 <= code < 600:
                self.refused[serial] = (code, text)
                return
            self.deferred += 1
            time.sleep(0.2)
        self.refused[serial] = (0, "gave up")

    def _try(self, serial):
        text = MESSAGE.format(serial=serial, sender=self.sender,
                              recipient=self.recipient)
        began, in_data = time.monotonic(), False
        try:
            with smtplib.SMTP("localhost", self.port, timeout=40) as smtp:
                smtp.ehlo("sender.test")
                if self.ca_file:
                    smtp.starttls(context=ssl.create_default_context(
                        cafile=str(self.ca_file)))
                    smtp.ehlo("sender.test")
                for code, said in (smtp.mail(self.sender),
                                   smtp.rcpt(self.recipient)):
                    if code != 250:
                        return code, said.decode()
                in_data = True
                code, said = smtp.data(text)
                in_data = False
                return code, said.decode()
        except smtplib.SMTPResponseException as e:
            return e.smtp_code, str(e.smtp_error)
        except (OSError, smtplib.SMTPException) as e:
            if in_data:
                self.unsure.add(serial)
            return 400, str(e)
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
