-- What is left of charges that are older than they are kept: sums by month.

-- from_us: when the month began in the site's zone. Keys that nobody is known for are empty.
-- The entries of such charges, and others as old, become one: its key is `carried`, and it has one
-- posting for each purse, the sum of theirs.
CREATE TABLE charge_sum (
  from_us INTEGER NOT NULL,
  spender BLOB NOT NULL,
  holder BLOB NOT NULL,
  printer BLOB NOT NULL,
  is_account INTEGER NOT NULL,
  charges INTEGER NOT NULL,
  impressions INTEGER NOT NULL,
  color_impressions INTEGER NOT NULL,
  sheets INTEGER NOT NULL,
  amount INTEGER NOT NULL,
  shadow INTEGER NOT NULL,
  flagged INTEGER NOT NULL,
  PRIMARY KEY (from_us, spender, holder, printer)
) WITHOUT ROWID;
