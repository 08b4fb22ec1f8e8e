-- The control db, from version 1 to 2: the brake, the gate, the end of a trail,
-- several passwords, identity, the way back. Times are Unix milliseconds.

ALTER TABLE domains ADD COLUMN cutover_window TEXT NOT NULL DEFAULT '';
ALTER TABLE domains ADD COLUMN blackout TEXT NOT NULL DEFAULT '';
ALTER TABLE domains ADD COLUMN admit_share INTEGER NOT NULL DEFAULT 1000000;
ALTER TABLE domains ADD COLUMN admit_listed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE domains ADD COLUMN admit_rate INTEGER NOT NULL DEFAULT 0;
ALTER TABLE domains ADD COLUMN learn_days INTEGER NOT NULL DEFAULT 30;
ALTER TABLE domains ADD COLUMN rollback_days INTEGER NOT NULL DEFAULT 14;
ALTER TABLE domains ADD COLUMN quiet_days INTEGER NOT NULL DEFAULT 7;
ALTER TABLE domains ADD COLUMN closed_at INTEGER NOT NULL DEFAULT 0;
-- what the table freezes means for this domain
ALTER TABLE domains ADD COLUMN is_frozen INTEGER NOT NULL DEFAULT 0;

ALTER TABLE accounts ADD COLUMN lock_login INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN lock_submission INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN question TEXT NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN mailbox_id TEXT NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN local_ready_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN late_mail_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN on_flip TEXT NOT NULL DEFAULT ''
    CHECK (on_flip IN ('', 'due', 'done', 'failed'));
ALTER TABLE accounts ADD COLUMN on_flip_attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN on_flip_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX accounts_on_flip ON accounts (on_flip_at)
    WHERE on_flip IN ('due', 'failed');
CREATE INDEX accounts_trailing ON accounts (domain_id, id)
    WHERE route = 'local' AND copy IN ('trail', 'paused');
ALTER TABLE accounts ADD COLUMN trail_ended_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN local_password_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN wants_rollback INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN rolled_back_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN delta_at INTEGER NOT NULL DEFAULT 0;

-- What may not begin: everywhere ('all', ''), in a domain, on a legacy host.
CREATE TABLE freezes (
    kind   TEXT NOT NULL CHECK (kind IN ('all', 'domain', 'host')),
    name   TEXT NOT NULL,
    since  INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- Who is taken in of a domain with admit_listed; may have no account yet.
CREATE TABLE admitted (
    domain_id INTEGER NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    address   TEXT NOT NULL,
    PRIMARY KEY (domain_id, address)
) STRICT, WITHOUT ROWID;

-- Messages that cannot be had, by name; accepted_at 0: the gate is shut.
CREATE TABLE set_aside (
    account_id  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    item        TEXT NOT NULL,
    reason      TEXT NOT NULL,
    seen_at     INTEGER NOT NULL,
    named_at    INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL DEFAULT 0,
    accepted_by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (account_id, item)
) STRICT, WITHOUT ROWID;

-- What a way back could not take to legacy.
CREATE TABLE leftovers (
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    line       TEXT NOT NULL,
    PRIMARY KEY (account_id, position)
) STRICT, WITHOUT ROWID;

-- Also those whom legacy serves again, while local still knows them as active.
DROP INDEX accounts_unsettled;
CREATE INDEX accounts_unsettled ON accounts (id)
    WHERE route = 'held' OR (provisioned_epoch < epoch AND
                             (route = 'local' OR rolled_back_at > 0));

-- Further passwords of an account, beside the one in secrets. The password
-- itself is sealed as long as its hash is made and the copying may need it;
-- is_only: once it has its hash, it is the only one.
CREATE TABLE credentials (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    origin      TEXT NOT NULL
                CHECK (origin IN ('legacy', 'local', 'imported')),
    label       TEXT NOT NULL DEFAULT '',
    hash        TEXT NOT NULL DEFAULT '',  -- '': is being made
    wrapped_key BLOB,
    sealed      BLOB,
    is_only     INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    used_at     INTEGER NOT NULL DEFAULT 0,
    CHECK (hash <> '' OR wrapped_key IS NOT NULL)
) STRICT;
CREATE INDEX credentials_by_account ON credentials (account_id, id);

-- Other names that log in to an address: technical ones, those without a
-- domain, a second name of one mailbox.
CREATE TABLE names (
    name        TEXT PRIMARY KEY,
    address     TEXT NOT NULL,
    legacy_user TEXT NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_address ON names (address);

-- What else an account list says of an account.
CREATE TABLE profiles (
    account_id  INTEGER PRIMARY KEY
                REFERENCES accounts (id) ON DELETE CASCADE,
    quota_bytes INTEGER NOT NULL DEFAULT 0,
    forward     TEXT NOT NULL DEFAULT '',
    owner       TEXT NOT NULL DEFAULT '',
    group_name  TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE aliases (
    alias      TEXT PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_account ON aliases (account_id);

-- Recipients that legacy takes mail for and that are no account of ours.
CREATE TABLE strangers (
    address   TEXT PRIMARY KEY,
    domain_id INTEGER NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    mails     INTEGER NOT NULL DEFAULT 0,
    first_at  INTEGER NOT NULL,
    last_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX strangers_by_domain ON strangers (domain_id, mails);

-- How many they are, and the mails of those beyond what is listed.
CREATE TABLE stranger_totals (
    domain_id      INTEGER PRIMARY KEY
                   REFERENCES domains (id) ON DELETE CASCADE,
    addresses      INTEGER NOT NULL DEFAULT 0,
    unlisted_mails INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TRIGGER strangers_counted AFTER INSERT ON strangers
BEGIN
    INSERT INTO stranger_totals (domain_id, addresses)
    VALUES (NEW.domain_id, 1)
    ON CONFLICT (domain_id) DO UPDATE SET addresses = addresses + 1;
END;
CREATE TRIGGER strangers_gone AFTER DELETE ON strangers
BEGIN
    UPDATE stranger_totals SET addresses = addresses - 1
    WHERE domain_id = OLD.domain_id;
END;
-- Whoever becomes an account, by whatever way, is no stranger any more.
CREATE TRIGGER accounts_are_no_strangers AFTER INSERT ON accounts
BEGIN
    DELETE FROM strangers WHERE address = NEW.address;
END;
CREATE TRIGGER aliases_are_no_strangers AFTER INSERT ON aliases
BEGIN
    DELETE FROM strangers WHERE address = NEW.alias;
END;

-- The sealed password of a domain's master user on legacy, and the name he logs
-- in with ('': by SASL's authorization identity where legacy offers it).
CREATE TABLE domain_secrets (
    domain_id      INTEGER PRIMARY KEY
                   REFERENCES domains (id) ON DELETE CASCADE,
    login_template TEXT NOT NULL DEFAULT '',
    wrapped_key    BLOB NOT NULL,
    sealed         BLOB NOT NULL
) STRICT;

-- Numbers of the whole installation: 'generation' is raised with each flip and
-- each way back.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('generation', 0);

-- Accounts of which the witness journal in the store knows more than this db:
-- it was put back from an old copy. Nobody is served until it is rebuilt.
CREATE TABLE refused (
    address     TEXT PRIMARY KEY,
    generation  INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    route       TEXT NOT NULL CHECK (route IN ('legacy', 'local')),
    at          INTEGER NOT NULL,
    legacy_user TEXT NOT NULL,
    prefix      TEXT,
    separator   TEXT,
    source      TEXT NOT NULL CHECK (source IN ('journal', 'auth', 'maildir'))
) STRICT, WITHOUT ROWID;

-- New kinds of jobs; what waits is kept.
CREATE TABLE jobs_2 (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    kind        TEXT NOT NULL
                CHECK (kind IN ('hash', 'initial', 'delta', 'final', 'trail',
                                'verify', 'rollback')),
    host        TEXT NOT NULL DEFAULT '',
    epoch       INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    lease_owner TEXT NOT NULL DEFAULT '',
    lease_until INTEGER NOT NULL DEFAULT 0,
    again_at    INTEGER,
    again_epoch INTEGER,
    -- of a frozen domain: out of the way of what goes on
    is_asleep   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (account_id, kind)
) STRICT;
INSERT INTO jobs_2 SELECT *, 0 FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_2 RENAME TO jobs;
CREATE INDEX jobs_waiting ON jobs (host, priority, due_at, id)
    WHERE lease_owner = '' AND is_asleep = 0
    AND kind NOT IN ('hash', 'final', 'rollback');
CREATE INDEX jobs_urgent ON jobs (priority, due_at, id)
    WHERE lease_owner = '' AND kind IN ('hash', 'final', 'rollback');
CREATE INDEX jobs_due ON jobs (due_at)
    WHERE lease_owner = '' AND is_asleep = 0;
CREATE INDEX jobs_leased ON jobs (account_id, kind, host, lease_owner)
    WHERE lease_owner <> '';

-- What it was before and after, and the reason that was given.
ALTER TABLE audit ADD COLUMN was TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN became TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN domain TEXT NOT NULL DEFAULT '';
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_address ON audit (address, id) WHERE address <> '';
CREATE INDEX audit_by_domain ON audit (domain, id) WHERE domain <> '';

-- How many accounts are in each state, and jobs of each kind wait and run:
-- counted as they change, so that nobody has to go through a million rows.
CREATE TABLE account_counts (
    domain_id INTEGER NOT NULL,
    route     TEXT NOT NULL,
    copy      TEXT NOT NULL,
    accounts  INTEGER NOT NULL,
    PRIMARY KEY (domain_id, route, copy)
) STRICT, WITHOUT ROWID;
INSERT INTO account_counts
    SELECT domain_id, route, copy, count(*) FROM accounts GROUP BY 1, 2, 3;

CREATE TRIGGER accounts_are_counted_in AFTER INSERT ON accounts
BEGIN
    INSERT INTO account_counts VALUES (NEW.domain_id, NEW.route, NEW.copy, 1)
        ON CONFLICT DO UPDATE SET accounts = accounts + 1;
END;
CREATE TRIGGER accounts_are_counted_out AFTER DELETE ON accounts
BEGIN
    UPDATE account_counts SET accounts = accounts - 1
        WHERE domain_id = OLD.domain_id AND route = OLD.route AND
              copy = OLD.copy;
END;
CREATE TRIGGER accounts_are_counted_again
    AFTER UPDATE OF domain_id, route, copy ON accounts
WHEN OLD.route <> NEW.route OR OLD.copy <> NEW.copy OR
     OLD.domain_id <> NEW.domain_id
BEGIN
    UPDATE account_counts SET accounts = accounts - 1
        WHERE domain_id = OLD.domain_id AND route = OLD.route AND
              copy = OLD.copy;
    INSERT INTO account_counts VALUES (NEW.domain_id, NEW.route, NEW.copy, 1)
        ON CONFLICT DO UPDATE SET accounts = accounts + 1;
END;
CREATE TRIGGER domains_are_counted_out AFTER DELETE ON domains
BEGIN
    DELETE FROM account_counts WHERE domain_id = OLD.id;
END;

CREATE TABLE job_counts (
    kind       TEXT NOT NULL,
    is_leased  INTEGER NOT NULL,
    jobs       INTEGER NOT NULL,
    PRIMARY KEY (kind, is_leased)
) STRICT, WITHOUT ROWID;
INSERT INTO job_counts
    SELECT kind, lease_owner <> '', count(*) FROM jobs GROUP BY 1, 2;

CREATE TRIGGER jobs_are_counted_in AFTER INSERT ON jobs
BEGIN
    INSERT INTO job_counts VALUES (NEW.kind, NEW.lease_owner <> '', 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER jobs_are_counted_out AFTER DELETE ON jobs
BEGIN
    UPDATE job_counts SET jobs = jobs - 1
        WHERE kind = OLD.kind AND is_leased = (OLD.lease_owner <> '');
END;
CREATE TRIGGER jobs_are_counted_again AFTER UPDATE OF lease_owner ON jobs
WHEN (OLD.lease_owner <> '') <> (NEW.lease_owner <> '')
BEGIN
    UPDATE job_counts SET jobs = jobs - 1
        WHERE kind = OLD.kind AND is_leased = (OLD.lease_owner <> '');
    INSERT INTO job_counts VALUES (NEW.kind, NEW.lease_owner <> '', 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
