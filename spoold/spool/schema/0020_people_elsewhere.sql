-- People who were at a site whose copy is of other groups: they are copied there, too, for a while.
CREATE TABLE guest (
  node BLOB NOT NULL,
  person BLOB NOT NULL,
  admitted_us INTEGER NOT NULL,
  PRIMARY KEY (node, person)
) WITHOUT ROWID;
CREATE INDEX guest_age ON guest (admitted_us);
CREATE TRIGGER object_guest_new AFTER INSERT ON guest BEGIN
  UPDATE object SET position = (SELECT id FROM next_record)
    WHERE kind = 'user' AND key = NEW.person;
END;
CREATE TRIGGER object_guest_gone AFTER DELETE ON guest BEGIN
  UPDATE object SET position = (SELECT id FROM next_record)
    WHERE kind = 'user' AND key = OLD.person;
END;

-- What waits at sites, by whose it is: people ask for it wherever they stand.
CREATE INDEX remote_job_held ON remote_job (owner, id) WHERE finished_us IS NULL AND state = 4;
