"""The races of the flip: mail on its way to an account that is held."""

import smtplib
import time

import pytest

from lib.flipping import Background, message
from lib.waiting import wait_until

WORLD = {"cutover": "manual", "more_users": 20, "trail_inbox_seconds": 300,
         "trail_seconds": 600}


def begin_mail(world, user):
    """A client whose recipient has been accepted."""
    smtp = world.smtp()
    assert smtp.mail("x@sender.test")[0] == 250
    assert smtp.rcpt(world.address(user))[0] == 250
    return smtp


@pytest.mark.parametrize("side, pattern", [
    ("command", rb"\r\n\.\r\n"), ("answer", rb"^250 2\.0\.0 Ok: queued")])
def test_mail_in_data_at_the_hold_ends_there_and_is_trailed(flipping, side,
                                                            pattern):
    world, user = flipping.world, flipping.copied()
    serial = f"{user}-data"
    stop = flipping.smtp.stop(pattern, world.address(user), side)
    client = Background(world.send, user, "mailhaul", "x@sender.test", serial)
    stop.wait()
    flipping.cutover(user)
    flipping.await_held(user)
    assert client.is_alive()
    stop.release()
    assert client.result() == serial
    flipping.await_moved(user)
    flipping.await_place(user, serial)
    if side == "command":
        assert not flipping.logged(user, "hold-failed")


def test_data_that_outlasts_the_hold_keeps_the_account_on_legacy(flipping):
    world, user = flipping.world, flipping.copied()
    flipping.set_domain("--hold-seconds", "4")
    try:
        serial = f"{user}-long"
        stop = flipping.smtp.stop(rb"\r\n\.\r\n", world.address(user))
        client = Background(world.send, user, "mailhaul", "x@sender.test",
                            serial)
        stop.wait()
        flipping.cutover(user)
        flipping.await_held(user)
        row = world.wait_account(user, route="legacy", copy="delta")
        assert row["hold_failures"] == 1
        stop.release()
        assert client.result() == serial
    finally:
        flipping.set_domain("--hold-seconds", "20")
    flipping.await_place(user, serial, "legacy")
    flipping.cutover(user)
    flipping.await_moved(user)
    flipping.await_place(user, serial)


def test_mail_before_its_data_is_deferred_and_repeated_to_local(flipping):
    world, user = flipping.world, flipping.copied()
    with begin_mail(world, user) as smtp:
        final = flipping.hold(user)
        with pytest.raises(smtplib.SMTPDataError) as refused:
            smtp.data(message(f"{user}-early"))
        assert refused.value.smtp_code == 451
        again = Background(begin_mail, world, user)
        final.release()
        with again.result() as smtp2:
            assert smtp2.data(message(f"{user}-early"))[0] == 250
    flipping.await_moved(user)
    flipping.await_place(user, f"{user}-early")
    assert not flipping.places(user, f"{user}-early", "legacy")


def test_recipient_waits_while_held_and_goes_to_local(flipping):
    world, user = flipping.world, flipping.copied()
    final = flipping.hold(user)
    client = Background(begin_mail, world, user)
    time.sleep(0.5)  # to be wrong, it needs some time
    assert client.is_alive()
    final.release()
    with client.result() as smtp:
        assert smtp.data(message(f"{user}-waited"))[0] == 250
    flipping.await_place(user, f"{user}-waited")
    assert not flipping.places(user, f"{user}-waited", "legacy")


def test_recipient_asked_of_legacy_at_the_hold_goes_to_local(flipping):
    """Legacy answers RCPT only when the account has moved."""
    world, user = flipping.world, flipping.copied()
    stop = flipping.smtp.stop(rb"^RCPT TO", world.address(user))
    client = Background(begin_mail_or_code, world, user)
    stop.wait()
    flipping.cutover(user)
    flipping.await_moved(user)
    stop.release()
    code = client.result()
    assert code in (250, 451)
    serial = world.send(user)
    flipping.await_place(user, serial)
    assert not flipping.places(user, serial, "legacy")
    assert not flipping.places(user, f"{user}-asked", "legacy")


def begin_mail_or_code(world, user):
    """The answer to RCPT, or to DATA where that was good."""
    with world.smtp() as smtp:
        smtp.mail("x@sender.test")
        code = smtp.rcpt(world.address(user))[0]
        if code != 250:
            return code
        try:
            return smtp.data(message(f"{user}-asked"))[0]
        except smtplib.SMTPDataError as refused:
            return refused.smtp_code


def test_two_recipients_of_whom_one_is_held(flipping):
    """The held one waits; he is of the other side then, and comes again."""
    world, held = flipping.world, flipping.copied()
    stays = flipping.copied()
    final = flipping.hold(held)
    smtp = begin_mail(world, stays)
    client = Background(smtp.rcpt, world.address(held))
    time.sleep(0.3)
    assert client.is_alive()
    final.release()
    assert client.result()[0] == 452
    assert smtp.data(message(f"{held}-two"))[0] == 250
    smtp.quit()
    flipping.await_place(stays, f"{held}-two", "legacy")
    assert not flipping.places(held, f"{held}-two", "local")
    wait_until(lambda: not flipping.is_held(held), 30)
