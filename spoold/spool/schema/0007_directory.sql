-- The directory: cards, PINs and delegates of users; and who has failed to log in too often.

-- Keyed hashes (see model/card.py), as passwords in no record. A PIN that is long enough to stand
-- alone has one owner; a shorter one is hashed with its owner's key.
ALTER TABLE directory ADD COLUMN pin BLOB;
CREATE UNIQUE INDEX directory_pin ON directory (pin) WHERE pin IS NOT NULL;
CREATE TABLE card (
  digest BLOB PRIMARY KEY,
  person_id INTEGER NOT NULL,
  number INTEGER NOT NULL,
  label TEXT NOT NULL,
  ending TEXT NOT NULL,
  added_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX card_person ON card (person_id, number);
-- Who may release for whom; the same stands, by key, in the fields of the one who said so.
CREATE TABLE delegate (
  delegate_id INTEGER NOT NULL,
  person_id INTEGER NOT NULL,
  PRIMARY KEY (delegate_id, person_id)
) WITHOUT ROWID;
CREATE INDEX delegate_person ON delegate (person_id);
-- What was refused at logins, and from where people have come in: by keyed hash, so that nothing
-- here names anybody. No fact of the journal: it only lives through a restart.
CREATE TABLE throttle (
  kind TEXT NOT NULL,
  key BLOB NOT NULL,
  count INTEGER NOT NULL,
  last_us INTEGER NOT NULL,
  PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX throttle_last ON throttle (last_us);
