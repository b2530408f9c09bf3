-- Jobs, documents, printers, people, and the journal whose folds they are.

-- A chain is one incarnation of one journal; `id` is the high part of record.id (see sqlite.py).
CREATE TABLE chain (
  id INTEGER PRIMARY KEY,
  journal BLOB NOT NULL,
  incarnation BLOB NOT NULL,
  parent_incarnation BLOB,
  parent_position INTEGER,
  parent_hash BLOB,
  is_own INTEGER NOT NULL,
  started_us INTEGER NOT NULL,
  position INTEGER NOT NULL,
  hash BLOB NOT NULL,
  anchor_position INTEGER NOT NULL,
  anchor_hash BLOB NOT NULL,
  last_job_id INTEGER NOT NULL,
  UNIQUE (journal, incarnation)
);
CREATE TABLE record (
  id INTEGER PRIMARY KEY,
  header BLOB NOT NULL,
  payload BLOB NOT NULL,
  personal BLOB,
  hash BLOB NOT NULL
);
CREATE TABLE person (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  name TEXT UNIQUE
);
CREATE TABLE device (
  id INTEGER PRIMARY KEY,
  guid BLOB NOT NULL UNIQUE,
  uri TEXT NOT NULL,
  fields BLOB NOT NULL
);
CREATE TABLE printer (
  id INTEGER PRIMARY KEY,
  guid BLOB NOT NULL UNIQUE,
  name TEXT UNIQUE,
  device_id INTEGER REFERENCES device (id),
  fields BLOB NOT NULL
);
-- state: the enum value of RFC 8011 5.3.7, 3 (pending) to 9 (completed).
CREATE TABLE job (
  id INTEGER PRIMARY KEY,
  uuid BLOB NOT NULL,
  printer_id INTEGER NOT NULL,
  state INTEGER NOT NULL,
  reasons TEXT NOT NULL,
  message TEXT NOT NULL,
  owner_id INTEGER NOT NULL,
  owner_known TEXT NOT NULL,
  owner_by TEXT NOT NULL,
  submitter TEXT NOT NULL,
  title TEXT NOT NULL,
  client_host TEXT NOT NULL,
  intake TEXT NOT NULL,
  priority INTEGER NOT NULL,
  copies INTEGER NOT NULL,
  copies_embedded INTEGER NOT NULL,
  attributes BLOB,
  attempts INTEGER NOT NULL,
  created_us INTEGER NOT NULL,
  changed_us INTEGER NOT NULL,
  finished_us INTEGER,
  interrupted INTEGER NOT NULL,
  position INTEGER NOT NULL
);
CREATE UNIQUE INDEX job_uuid ON job (uuid);
CREATE INDEX job_unfinished ON job (printer_id, state) WHERE finished_us IS NULL;
CREATE INDEX job_finished ON job (finished_us) WHERE finished_us IS NOT NULL;
CREATE INDEX job_interrupted ON job (printer_id, created_us) WHERE interrupted = 1;
-- id: job id * 4096 + number of the document in its job, from 1. The body is last, so that
-- listings never read its overflow pages.
CREATE TABLE document (
  id INTEGER PRIMARY KEY,
  size INTEGER NOT NULL,
  digest TEXT NOT NULL,
  format TEXT NOT NULL,
  encoding TEXT NOT NULL,
  key_id TEXT NOT NULL,
  stored TEXT NOT NULL,
  file TEXT NOT NULL,
  body BLOB
);
CREATE TABLE attempt (
  job_id INTEGER NOT NULL,
  number INTEGER NOT NULL,
  device_id INTEGER NOT NULL,
  printer_id INTEGER NOT NULL,
  started_us INTEGER NOT NULL,
  ended_us INTEGER,
  outcome TEXT NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  bytes_sent INTEGER NOT NULL,
  evidence BLOB,
  PRIMARY KEY (job_id, number)
) WITHOUT ROWID;
-- What is left of a job that named itself, so that its uuid never makes a second one.
CREATE TABLE tombstone (
  uuid BLOB PRIMARY KEY,
  job_id INTEGER NOT NULL,
  printer_guid BLOB NOT NULL,
  submitter TEXT NOT NULL,
  digest TEXT NOT NULL,
  state INTEGER NOT NULL,
  position INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE provider (
  guid BLOB PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  fields BLOB NOT NULL,
  revoked INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE certificate (
  serial TEXT PRIMARY KEY,
  provider_guid BLOB NOT NULL,
  not_after_us INTEGER NOT NULL,
  revoked INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE cursor (
  name TEXT PRIMARY KEY,
  position INTEGER NOT NULL,
  changed_us INTEGER NOT NULL
) WITHOUT ROWID;
