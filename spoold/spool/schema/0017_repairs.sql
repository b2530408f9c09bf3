-- What a site that was cut off has changed of printers that belong to its application server.

-- At the site (site is its own) one row for each field that differs: `value` as it is, `was` as
-- upstream has it. At an application server what sites have told, until somebody has settled it.
-- field: `paused` (value: the reason, or NULL for not paused) or `device`. position: of the record
-- at the site. is_reverted: somebody has decided that upstream's value holds.
CREATE TABLE repair (
  site BLOB NOT NULL,
  printer BLOB NOT NULL,
  field TEXT NOT NULL,
  value TEXT,
  was TEXT,
  position INTEGER NOT NULL,
  since_us INTEGER NOT NULL,
  actor TEXT NOT NULL,
  is_reverted INTEGER NOT NULL,
  PRIMARY KEY (site, printer, field)
) WITHOUT ROWID;
