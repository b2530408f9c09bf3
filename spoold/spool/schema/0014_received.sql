-- What other journals have sent: how far, what it says of their jobs, and what was of no use.

-- Beside the row of a foreign chain. head: the last position that its sender has, as it says.
-- state: `open`, `forked` (its sender has other records where this node has some), or `left` (its
-- sender has gone on as another incarnation).
CREATE TABLE received (
  chain_id INTEGER PRIMARY KEY,
  head INTEGER NOT NULL,
  received_us INTEGER NOT NULL,
  state TEXT NOT NULL,
  fork_position INTEGER,
  fork_us INTEGER
);
-- Records that are kept as they came, and could not be applied. personal text is never in a reason.
CREATE TABLE quarantine (
  chain_id INTEGER NOT NULL,
  position INTEGER NOT NULL,
  kind TEXT NOT NULL,
  reason TEXT NOT NULL,
  noticed_us INTEGER NOT NULL,
  PRIMARY KEY (chain_id, position)
) WITHOUT ROWID;
-- Jobs of other nodes, as far as their records tell. node: the journal. owner: a person's key here.
CREATE TABLE remote_job (
  id INTEGER PRIMARY KEY,
  node BLOB NOT NULL,
  uuid BLOB NOT NULL,
  job_id INTEGER NOT NULL,
  printer BLOB,
  owner BLOB,
  state INTEGER NOT NULL,
  reasons TEXT NOT NULL,
  title TEXT NOT NULL,
  intake TEXT NOT NULL,
  copies INTEGER NOT NULL,
  size INTEGER NOT NULL,
  format TEXT NOT NULL,
  impressions INTEGER,
  media_sheets INTEGER,
  attempts INTEGER NOT NULL,
  created_us INTEGER NOT NULL,
  changed_us INTEGER NOT NULL,
  finished_us INTEGER
);
CREATE UNIQUE INDEX remote_job_uuid ON remote_job (uuid, node);
CREATE INDEX remote_job_number ON remote_job (node, job_id);
CREATE INDEX remote_job_unfinished ON remote_job (node, state) WHERE finished_us IS NULL;
CREATE INDEX remote_job_owner ON remote_job (owner, id);
-- Rounds of sending, at both ends. peer: the other node. result: `` while it goes on.
CREATE TABLE round (
  id INTEGER PRIMARY KEY,
  peer BLOB NOT NULL,
  cause TEXT NOT NULL,
  started_us INTEGER NOT NULL,
  ended_us INTEGER,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  records INTEGER NOT NULL,
  result TEXT NOT NULL
);
