-- Nodes that dial in: site servers by the key that they made, and the invitations to become one.

-- `key` is the SHA-256 of the public key; `fields` holds the limits of what is copied there, and
-- the certificate that was given last. The names of revoked nodes can be given again.
CREATE TABLE node (
  guid BLOB PRIMARY KEY,
  name TEXT NOT NULL,
  state TEXT NOT NULL,
  key BLOB NOT NULL,
  fields BLOB NOT NULL,
  created_us INTEGER NOT NULL,
  changed_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX node_name ON node (name) WHERE state != 'revoked';
-- `secret` is the SHA-256 of what the token carries: used once, and gone then.
CREATE TABLE invite (
  name TEXT PRIMARY KEY,
  secret BLOB NOT NULL UNIQUE,
  is_approved INTEGER NOT NULL,
  fields BLOB NOT NULL,
  expires_us INTEGER NOT NULL
) WITHOUT ROWID;
