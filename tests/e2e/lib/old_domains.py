"""Domains whose old servers are fakes, and logging in there by hand."""

import time

from .wire import ImapWire, Wire


def serve(world, domain, imap=None, pop3=None, tls="", host="localhost"):
    """Enable a domain with these fakes; tls: "", "starttls" or "implicit".
    Without imap nothing answers there."""
    def url(protocol, fake):
        scheme = {"": protocol, "starttls": f"{protocol}+starttls",
                  "implicit": f"{protocol}s"}[tls]
        return f"{scheme}://{host}:{fake.port}"
    args = ["--imap", url("imap", imap) if imap else "imap://127.0.0.1:9"]
    args += ["--pop3", url("pop3", pop3)] if pop3 else []
    world.mailhaul("domain", "add", domain, "--cutover", "manual", *args)
    world.mailhaul("domain", "enable", domain)


def imap_answer(world, user, password, wait_s=70):
    """(tagged answer, untagged responses, seconds) of one LOGIN."""
    with ImapWire(world.own["imap"], wait_s=wait_s) as wire:
        began = time.monotonic()
        answer, untagged = wire.command(f'LOGIN "{user}" "{password}"')
        return answer.decode(), untagged, time.monotonic() - began


def pop3_answer(world, user, password, wait_s=70):
    """(answer to PASS, [], seconds)."""
    with Wire(world.own["pop3"], wait_s=wait_s) as wire:
        wire.read_line()
        wire.line(f"USER {user}")
        wire.read_line()
        began = time.monotonic()
        wire.line(f"PASS {password}")
        return wire.read_line().decode(), [], time.monotonic() - began


def is_temporary(answer):
    return answer.startswith(("NO [UNAVAILABLE]", "-ERR [SYS/TEMP]",
                              "-ERR [IN-USE]", "-ERR [LOGIN-DELAY]"))


def is_refusal(answer):
    return answer.startswith(("NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]"))


def addresses(world, domain):
    """Of the accounts there."""
    rows = world.mailhaul("account", "list", "--domain", domain)["accounts"]
    return sorted(row["address"] for row in rows)
