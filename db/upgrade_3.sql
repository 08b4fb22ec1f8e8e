-- Version 3. This file does not change once it is in use.

-- Folders that are not copied: patterns, see account/folder_rules.h.
ALTER TABLE domains ADD COLUMN exclude TEXT NOT NULL DEFAULT '';
