-- Rights: parts of balances that sites may spend without asking; and what holds where they are alone.

-- At an application server one row for each site that was granted anything, at a site (is_own) one
-- of its own. `epoch` counts how often a site began anew; what it held before is not its own any
-- more. from_us..until_us: when the site may use them, by the clock of this node; at an application
-- server until_us is when they are taken back. incarnation: of the site's journal. upstream: the
-- incarnation of the application server by which a site's row is. fields: the policy, packed.
CREATE TABLE right_lease (
  site BLOB PRIMARY KEY,
  is_own INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  from_us INTEGER NOT NULL,
  until_us INTEGER NOT NULL,
  is_frozen INTEGER NOT NULL,
  incarnation BLOB,
  upstream BLOB,
  fields BLOB NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX right_lease_own ON right_lease (is_own) WHERE is_own = 1;
-- What a site was granted out of a purse in an epoch, altogether: it only grows. source: the purse.
CREATE TABLE right_granted (
  site BLOB NOT NULL,
  holder BLOB NOT NULL,
  epoch INTEGER NOT NULL,
  purse BLOB NOT NULL,
  is_account INTEGER NOT NULL,
  amount INTEGER NOT NULL,
  source BLOB NOT NULL,
  PRIMARY KEY (site, holder, epoch, purse)
) WITHOUT ROWID;
CREATE INDEX right_granted_epoch ON right_granted (site, epoch, holder);
-- What holds at a site that is cut off; 16 zero bytes: at each that has none of its own.
CREATE TABLE offline_policy (
  site BLOB PRIMARY KEY,
  fields BLOB NOT NULL,
  changed_us INTEGER NOT NULL
) WITHOUT ROWID;
-- One row while held printers print at once.
CREATE TABLE emergency (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  since_us INTEGER NOT NULL,
  until_us INTEGER NOT NULL,
  actor TEXT NOT NULL,
  reason TEXT NOT NULL
);
-- Passwords that a directory elsewhere has accepted: Argon2id, sealed with a key of this node.
CREATE TABLE verifier (
  person BLOB PRIMARY KEY,
  sealed BLOB NOT NULL,
  verified_us INTEGER NOT NULL
) WITHOUT ROWID;
