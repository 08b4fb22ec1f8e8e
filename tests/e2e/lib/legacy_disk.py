"""Legacy's own files: what a migration must not change."""

from .snapshot import folder_names, quote


def legacy_on_disk(world, user):
    """Every message's path below the Maildir (so place and flags), time and
    bytes; folders; the lists that a client can change."""
    home = world.legacy_dovecot.folder / "mail" / world.address(user)
    found = {}
    for p in sorted(home.rglob("*")):
        name = str(p.relative_to(home))
        if p.is_dir():
            found[name] = "folder"
        elif p.parent.name in ("cur", "new", "tmp"):
            found[name] = (p.stat().st_mtime_ns, p.read_bytes())
        elif p.name in ("subscriptions", "dovecot-keywords"):
            found[name] = p.read_bytes()
    return found


def recent(world, user):
    imap = world.imap(user, "legacy")
    rows = [imap.status(quote(name), "(RECENT UNSEEN MESSAGES)")[1][0]
            for name in sorted(folder_names(imap))]
    imap.logout()
    return rows
