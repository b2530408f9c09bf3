-- Held jobs: what is in them, who may fetch them, sessions at machines.

-- MFDs that come in by themselves. `fields` are packed settings, the printers that one may release
-- on among them; `token` is the SHA-256 of the token that it shows, and no record carries it.
CREATE TABLE mfd (
  guid BLOB PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  fields BLOB NOT NULL,
  token BLOB,
  revoked INTEGER NOT NULL,
  created_us INTEGER NOT NULL,
  changed_us INTEGER NOT NULL
) WITHOUT ROWID;
-- Who is logged in where: one person at an MFD. `key` is the SHA-256 of the session's id; ended
-- ones are kept for a while.
CREATE TABLE session (
  key BLOB PRIMARY KEY,
  mfd BLOB NOT NULL,
  person BLOB NOT NULL,
  method TEXT NOT NULL,
  started_us INTEGER NOT NULL,
  used_us INTEGER NOT NULL,
  ended_us INTEGER,
  reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX session_open ON session (mfd) WHERE ended_us IS NULL;
CREATE INDEX session_ended ON session (ended_us) WHERE ended_us IS NOT NULL;
-- held_us: since when a job waits to be released by its owner, or cleared; impressions (of one copy)
-- and media_sheets (of all): what its documents were counted to make.
ALTER TABLE job ADD COLUMN held_us INTEGER;
ALTER TABLE job ADD COLUMN impressions INTEGER;
ALTER TABLE job ADD COLUMN media_sheets INTEGER;
CREATE INDEX job_held ON job (owner_id, id) WHERE held_us IS NOT NULL;
CREATE INDEX job_held_since ON job (printer_id, held_us) WHERE held_us IS NOT NULL;
-- What is in the documents of a job, packed.
CREATE TABLE counted (
  job_id INTEGER NOT NULL,
  document INTEGER NOT NULL,
  contents BLOB NOT NULL,
  PRIMARY KEY (job_id, document)
) WITHOUT ROWID;
-- Each release of a job: who, where, on what terms, at whose cost. `fields` is packed.
CREATE TABLE release (
  job_id INTEGER NOT NULL,
  number INTEGER NOT NULL,
  released_us INTEGER NOT NULL,
  printer_id INTEGER NOT NULL,
  fields BLOB NOT NULL,
  PRIMARY KEY (job_id, number)
) WITHOUT ROWID;
