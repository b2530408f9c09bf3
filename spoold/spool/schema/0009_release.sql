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
