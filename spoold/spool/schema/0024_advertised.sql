-- Where clients of each site are to go, as it said last: a site that is away is the one that is wanted.
CREATE TABLE advertised (
  site BLOB PRIMARY KEY,
  told BLOB NOT NULL
) WITHOUT ROWID;
