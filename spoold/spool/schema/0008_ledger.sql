-- The ledger: prices, purses, entries and their postings, charges; shared accounts and allowances.

-- Amounts are whole numbers of 1/10,000. What people and machines see of a row is in `fields`,
-- packed; the other columns are what is searched, added up or unique.
CREATE TABLE price_list (
  version INTEGER PRIMARY KEY,
  from_us INTEGER NOT NULL,
  fields BLOB NOT NULL
);
CREATE INDEX price_list_from ON price_list (from_us, version);
-- One row: what holds for everybody.
CREATE TABLE terms (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  fields BLOB NOT NULL
);
-- recipient: `everybody`, `group:NAME`, `person:GUID`, `account:GUID`.
CREATE TABLE allowance (
  guid BLOB PRIMARY KEY,
  recipient TEXT NOT NULL,
  fields BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX allowance_recipient ON allowance (recipient);
-- name and code are NULL once the account is removed; its purses and charges stay.
CREATE TABLE account (
  id INTEGER PRIMARY KEY,
  guid BLOB NOT NULL UNIQUE,
  name TEXT UNIQUE,
  code TEXT UNIQUE,
  fields BLOB NOT NULL,
  created_us INTEGER NOT NULL,
  changed_us INTEGER NOT NULL
);
-- allowed: `group:NAME` or `person:GUID`.
CREATE TABLE account_access (
  allowed TEXT NOT NULL,
  account_id INTEGER NOT NULL,
  PRIMARY KEY (allowed, account_id)
) WITHOUT ROWID;
CREATE INDEX account_access_account ON account_access (account_id);
-- The balances add up to zero: purses of holders, and those of the ledger itself, whose holder is
-- 16 zero bytes (`cash`, `given`, `revenue`, `reserved`).
CREATE TABLE purse (
  id INTEGER PRIMARY KEY,
  guid BLOB NOT NULL UNIQUE,
  holder BLOB NOT NULL,
  kind TEXT NOT NULL,
  allowance BLOB,
  period TEXT NOT NULL,
  from_us INTEGER NOT NULL,
  until_us INTEGER,
  balance INTEGER NOT NULL
);
CREATE INDEX purse_holder ON purse (holder);
-- An entry's key makes it one; the amounts of its postings add up to zero. after: the balance then.
CREATE TABLE entry (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  cause TEXT NOT NULL,
  holder BLOB NOT NULL,
  charge BLOB,
  happened_us INTEGER NOT NULL,
  booked_us INTEGER NOT NULL,
  actor TEXT NOT NULL,
  reason TEXT NOT NULL,
  position INTEGER NOT NULL
);
CREATE INDEX entry_holder ON entry (holder, id);
CREATE INDEX entry_charge ON entry (charge) WHERE charge IS NOT NULL;
CREATE TABLE posting (
  entry_id INTEGER NOT NULL,
  number INTEGER NOT NULL,
  purse_id INTEGER NOT NULL,
  amount INTEGER NOT NULL,
  after INTEGER NOT NULL,
  PRIMARY KEY (entry_id, number)
) WITHOUT ROWID;
-- spender: the person for whom it is, also where an account pays.
CREATE TABLE charge (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  state TEXT NOT NULL,
  holder BLOB NOT NULL,
  is_account INTEGER NOT NULL,
  spender BLOB,
  job_id INTEGER,
  printer BLOB,
  work TEXT NOT NULL,
  impressions INTEGER NOT NULL,
  color_impressions INTEGER NOT NULL,
  sheets INTEGER NOT NULL,
  amount INTEGER NOT NULL,
  refunded INTEGER NOT NULL,
  is_shadow INTEGER NOT NULL,
  flags TEXT NOT NULL,
  happened_us INTEGER NOT NULL,
  ended_us INTEGER,
  fields BLOB NOT NULL
);
CREATE INDEX charge_job ON charge (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX charge_open ON charge (job_id) WHERE state = 'reserved';
CREATE INDEX charge_happened ON charge (happened_us);
CREATE INDEX charge_spender ON charge (spender, happened_us);
CREATE INDEX charge_holder ON charge (holder, happened_us);
CREATE INDEX charge_printer ON charge (printer, happened_us);
