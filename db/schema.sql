-- The control db, version 1. Later versions are numbered upgrades of their own
-- (db/control.c lists them); this file does not change once it is in use.
-- Times are Unix milliseconds, except domains.created_at (seconds).

CREATE TABLE domains (
    id                INTEGER PRIMARY KEY,
    name              TEXT NOT NULL UNIQUE,
    is_enabled        INTEGER NOT NULL DEFAULT 0,
    imap_url          TEXT NOT NULL DEFAULT '',
    pop3_url          TEXT NOT NULL DEFAULT '',
    smtp_url          TEXT NOT NULL DEFAULT '',
    submission_url    TEXT NOT NULL DEFAULT '',
    sieve_url         TEXT NOT NULL DEFAULT '',
    username_template TEXT NOT NULL DEFAULT '{address}',
    master_user       TEXT NOT NULL DEFAULT '',
    on_flip           TEXT NOT NULL DEFAULT '',
    cutover           TEXT NOT NULL DEFAULT 'auto'
                      CHECK (cutover IN ('auto', 'manual')),
    hold_seconds      INTEGER NOT NULL DEFAULT 20,
    created_at        INTEGER NOT NULL
) STRICT;

-- The one row that routing reads. No secret stands here.
CREATE TABLE accounts (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    domain_id         INTEGER NOT NULL REFERENCES domains (id),
    address           TEXT NOT NULL UNIQUE,
    legacy_user       TEXT NOT NULL,
    route             TEXT NOT NULL
                      CHECK (route IN ('legacy', 'held', 'local')),
    copy              TEXT NOT NULL
                      CHECK (copy IN ('none', 'initial', 'delta', 'final',
                                      'trail', 'done', 'failed', 'paused')),
    epoch             INTEGER NOT NULL DEFAULT 0,
    provisioned_epoch INTEGER NOT NULL DEFAULT -1,
    password_state    TEXT NOT NULL DEFAULT 'none'
                      CHECK (password_state IN ('none', 'learnt', 'confirmed')),
    legacy_prefix     TEXT,          -- NULL: not known
    legacy_separator  TEXT,          -- NULL: not known; '': NIL
    folders           INTEGER NOT NULL DEFAULT 0,
    messages          INTEGER NOT NULL DEFAULT 0,
    bytes             INTEGER NOT NULL DEFAULT 0,
    messages_total    INTEGER NOT NULL DEFAULT 0,
    bytes_total       INTEGER NOT NULL DEFAULT 0,
    set_aside         INTEGER NOT NULL DEFAULT 0,
    hold_failures     INTEGER NOT NULL DEFAULT 0,
    next_flip_at      INTEGER NOT NULL DEFAULT 0,
    wants_flip        INTEGER NOT NULL DEFAULT 0,
    is_clean          INTEGER NOT NULL DEFAULT 0,
    last_error_kind   TEXT NOT NULL DEFAULT '',
    last_error        TEXT NOT NULL DEFAULT '',
    last_error_at     INTEGER NOT NULL DEFAULT 0,
    created_at        INTEGER NOT NULL,
    copied_at         INTEGER NOT NULL DEFAULT 0,
    flipped_at        INTEGER NOT NULL DEFAULT 0,
    updated_at        INTEGER NOT NULL
) STRICT;

CREATE INDEX accounts_by_domain ON accounts (domain_id, address);
CREATE INDEX accounts_unsettled ON accounts (id)
    WHERE route = 'held' OR (route = 'local' AND provisioned_epoch < epoch);

-- Apart from the row, so that a row can be shown and rewritten without them.
CREATE TABLE secrets (
    account_id    INTEGER PRIMARY KEY
                  REFERENCES accounts (id) ON DELETE CASCADE,
    wrapped_key   BLOB,
    sealed        BLOB,
    password_hash TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE jobs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    kind        TEXT NOT NULL
                CHECK (kind IN ('hash', 'initial', 'delta', 'final', 'trail',
                                'verify')),
    host        TEXT NOT NULL DEFAULT '',
    epoch       INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    lease_owner TEXT NOT NULL DEFAULT '',
    lease_until INTEGER NOT NULL DEFAULT 0,
    again_at    INTEGER,             -- asked for again while it was leased
    again_epoch INTEGER,
    UNIQUE (account_id, kind)
) STRICT;

-- Waiting jobs of a host in the order of leasing, and those that no host
-- hinders. A choice looks at the first of each, however many wait.
CREATE INDEX jobs_waiting ON jobs (host, priority, due_at, id)
    WHERE lease_owner = '' AND kind NOT IN ('hash', 'final');
CREATE INDEX jobs_urgent ON jobs (priority, due_at, id)
    WHERE lease_owner = '' AND kind IN ('hash', 'final');
CREATE INDEX jobs_due ON jobs (due_at) WHERE lease_owner = '';
CREATE INDEX jobs_leased ON jobs (account_id, kind, host, lease_owner)
    WHERE lease_owner <> '';

-- Append-only; outlives the accounts it speaks of.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    account_id INTEGER NOT NULL DEFAULT 0,
    actor      TEXT NOT NULL,
    event      TEXT NOT NULL,
    detail     TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX audit_by_account ON audit (account_id, id);

CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit is append-only');
END;

CREATE TRIGGER audit_keeps_words BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit is append-only');
END;

-- INSERT OR REPLACE deletes without asking the first trigger.
CREATE TRIGGER audit_keeps_ids BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'audit is append-only');
END;
