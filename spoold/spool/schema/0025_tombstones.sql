-- When a job was removed, so that what is left of it does not stay for ever. Of those that were removed
-- before nobody knows: they count as removed when this version came, on the 22nd of November 2026.
ALTER TABLE tombstone ADD COLUMN removed_us INTEGER NOT NULL DEFAULT 1795305600000000;
