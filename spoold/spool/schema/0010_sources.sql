-- Where people come from: directories that are synchronised with, and who came from which.

-- fields: the settings, packed; round: how the last one went, packed, NULL before the first.
CREATE TABLE source (
  guid BLOB PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  fields BLOB NOT NULL,
  round BLOB,
  created_us INTEGER NOT NULL,
  changed_us INTEGER NOT NULL
) WITHOUT ROWID;
-- id: how the source knows the person, whatever they are called. is_off: the source disabled the
-- user; is_gone: because it knows them no more. card: the hash of the card that came from it, and
-- which of the user's cards that is.
CREATE TABLE sourced (
  person_id INTEGER PRIMARY KEY,
  source BLOB NOT NULL,
  id TEXT NOT NULL,
  is_off INTEGER NOT NULL,
  is_gone INTEGER NOT NULL,
  card BLOB,
  card_number INTEGER
);
CREATE UNIQUE INDEX sourced_id ON sourced (source, id);
-- A new name of somebody under which jobs had come before: `key` was the person of those jobs.
CREATE TABLE joined (
  key BLOB PRIMARY KEY,
  person_id INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX joined_person ON joined (person_id);
