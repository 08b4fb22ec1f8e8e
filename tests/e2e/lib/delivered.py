"""What became of mail: where a reader finds it, how often, and its bytes."""

from .snapshot import find_serials


def copies(world, user, side):
    """{serial: how often} in the whole mailbox."""
    imap = world.imap(user, side)
    try:
        return {serial: len(places)
                for serial, places in find_serials(imap).items()}
    finally:
        imap.logout()


def raw_message(world, user, side, serial):
    """Its bytes as a client is given them; None if it is not there."""
    imap = world.imap(user, side)
    try:
        places = find_serials(imap).get(serial)
        if not places:
            return None
        folder, uid = places[0]
        imap.select(folder, readonly=True)
        return imap.uid("FETCH", str(uid), "(BODY.PEEK[])")[1][0][1]
    finally:
        imap.logout()
