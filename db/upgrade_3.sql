-- Version 3. This file does not change once it is in use.

-- Folders that are not copied: patterns, see account/folder_rules.h.
ALTER TABLE domains ADD COLUMN exclude TEXT NOT NULL DEFAULT '';

-- The end of a domain that was undone: when it had come, so that the trails
-- which it ended can go on, and no others; 0: none.
ALTER TABLE domains ADD COLUMN reopened_from INTEGER NOT NULL DEFAULT 0;
-- The id of the sealing key that was the newest when it was closed; '': not
-- known.
ALTER TABLE domains ADD COLUMN closed_key TEXT NOT NULL DEFAULT '';
