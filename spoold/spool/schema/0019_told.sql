-- Up to where each site was told what was taken away, when its line ended: it may have more by now.
-- revoked: a position as in `object`.
CREATE TABLE told (
  site BLOB PRIMARY KEY,
  revoked INTEGER NOT NULL
) WITHOUT ROWID;
