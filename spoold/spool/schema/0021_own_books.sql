-- How far each incarnation of a site's journal was when it was first granted rights. What people
-- booked there by hand up to then counts: the site kept books of its own. After that balances are
-- the application server's alone.
CREATE TABLE own_books (
  site BLOB NOT NULL,
  incarnation BLOB NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (site, incarnation)
) WITHOUT ROWID;
-- Sites that were granted rights already: what has come of them so far.
INSERT INTO own_books SELECT chain.journal, chain.incarnation, chain.position FROM chain
  JOIN right_lease ON right_lease.site = chain.journal
  WHERE chain.is_own = 0 AND right_lease.is_own = 0 AND right_lease.epoch > 0;

-- Rounds are kept so many for each site.
CREATE INDEX round_peer ON round (peer, id);
