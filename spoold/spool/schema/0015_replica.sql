-- Objects in the order of their last changes, for sites that copy them; and, at a site, its copy.

-- Positions here are those of records (record.id), of the first one of the transaction that changed
-- the object; so whoever has seen the end of an earlier one has not passed it. `revoked`: the same of
-- the last one that took something away, which sites hear of first. Triggers keep this, so that no
-- change is left out whoever writes it.
CREATE TABLE object (
  kind TEXT NOT NULL,
  key BLOB NOT NULL,
  position INTEGER NOT NULL,
  revoked INTEGER,
  PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX object_position ON object (position, kind, key);
CREATE INDEX object_revoked ON object (revoked, kind, key) WHERE revoked IS NOT NULL;
CREATE INDEX chain_own ON chain (is_own) WHERE is_own = 1;
CREATE VIEW next_record (id) AS
  SELECT (id << 40 | position) + 1 FROM chain WHERE is_own = 1 ORDER BY id DESC LIMIT 1;

-- What is here already. Whoever begins to copy asks for everything, so the order is no matter.
INSERT INTO object SELECT 'user', person.key, 1, NULL
  FROM directory JOIN person ON person.id = person_id;
INSERT INTO object SELECT 'printer', guid, 1, NULL FROM printer WHERE name IS NOT NULL;
INSERT INTO object SELECT 'mfd', guid, 1, NULL FROM mfd;
INSERT INTO object SELECT 'provider', guid, 1, NULL FROM provider;
INSERT INTO object SELECT 'account', guid, 1, NULL FROM account WHERE name IS NOT NULL;
INSERT INTO object SELECT 'prices', CAST(version AS BLOB), 1, NULL FROM price_list;
INSERT INTO object SELECT 'terms', CAST(id AS BLOB), 1, NULL FROM terms;

-- Users, with their names, cards and certificates.
CREATE TRIGGER object_user_new AFTER INSERT ON directory BEGIN
  INSERT INTO object SELECT 'user', key, (SELECT id FROM next_record), NULL
    FROM person WHERE id = NEW.person_id
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_user AFTER UPDATE ON directory BEGIN
  INSERT INTO object SELECT 'user', key, next_record.id, CASE WHEN
      (OLD.password != '' AND NEW.password != OLD.password)
      OR (OLD.pin IS NOT NULL AND NEW.pin IS NOT OLD.pin) THEN next_record.id END
    FROM person JOIN next_record WHERE person.id = NEW.person_id
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position,
      revoked = coalesce(excluded.revoked, revoked);
END;
CREATE TRIGGER object_user_gone AFTER DELETE ON directory BEGIN
  INSERT INTO object SELECT 'user', key, next_record.id, next_record.id
    FROM person JOIN next_record WHERE person.id = OLD.person_id
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position,
      revoked = excluded.revoked;
END;
CREATE TRIGGER object_person AFTER UPDATE OF name ON person
WHEN EXISTS (SELECT 1 FROM object WHERE kind = 'user' AND key = NEW.key) BEGIN
  UPDATE object SET position = (SELECT id FROM next_record) WHERE kind = 'user' AND key = NEW.key;
END;
CREATE TRIGGER object_card_new AFTER INSERT ON card BEGIN
  INSERT INTO object SELECT 'user', key, (SELECT id FROM next_record), NULL
    FROM person WHERE id = NEW.person_id
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_card AFTER UPDATE ON card BEGIN
  INSERT INTO object SELECT 'user', key, (SELECT id FROM next_record), NULL
    FROM person WHERE id = NEW.person_id
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_card_gone AFTER DELETE ON card BEGIN
  INSERT INTO object SELECT 'user', key, next_record.id, next_record.id
    FROM person JOIN next_record WHERE person.id = OLD.person_id
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position,
      revoked = excluded.revoked;
END;
CREATE VIEW holder (kind, guid) AS
  SELECT 'user', person.key FROM person JOIN directory ON person_id = person.id
  UNION ALL SELECT 'mfd', guid FROM mfd UNION ALL SELECT 'provider', guid FROM provider;
CREATE TRIGGER object_certificate_new AFTER INSERT ON certificate BEGIN
  INSERT INTO object SELECT kind, guid, (SELECT id FROM next_record), NULL
    FROM holder WHERE guid = NEW.holder
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_certificate AFTER UPDATE ON certificate BEGIN
  INSERT INTO object SELECT kind, guid, next_record.id,
      CASE WHEN NEW.revoked > OLD.revoked THEN next_record.id END
    FROM holder JOIN next_record WHERE guid = NEW.holder
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position,
      revoked = coalesce(excluded.revoked, revoked);
END;

-- Printers, with their devices.
CREATE TRIGGER object_printer_new AFTER INSERT ON printer BEGIN
  INSERT INTO object VALUES ('printer', NEW.guid, (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_printer AFTER UPDATE ON printer BEGIN
  INSERT INTO object VALUES ('printer', NEW.guid, (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE INDEX printer_device ON printer (device_id) WHERE device_id IS NOT NULL;
CREATE TRIGGER object_device AFTER UPDATE ON device BEGIN
  INSERT INTO object SELECT 'printer', guid, (SELECT id FROM next_record), NULL
    FROM printer WHERE device_id = NEW.id AND name IS NOT NULL
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;

-- Who else comes in: MFDs and providers.
CREATE TRIGGER object_mfd_new AFTER INSERT ON mfd BEGIN
  INSERT INTO object VALUES ('mfd', NEW.guid, (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_mfd AFTER UPDATE ON mfd BEGIN
  INSERT INTO object SELECT 'mfd', NEW.guid, id, CASE WHEN NEW.revoked > OLD.revoked
      OR (OLD.token IS NOT NULL AND NEW.token IS NOT OLD.token) THEN id END
    FROM next_record WHERE true
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position,
      revoked = coalesce(excluded.revoked, revoked);
END;
CREATE TRIGGER object_provider_new AFTER INSERT ON provider BEGIN
  INSERT INTO object VALUES ('provider', NEW.guid, (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_provider AFTER UPDATE ON provider BEGIN
  INSERT INTO object SELECT 'provider', NEW.guid, id,
      CASE WHEN NEW.revoked > OLD.revoked THEN id END
    FROM next_record WHERE true
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position,
      revoked = coalesce(excluded.revoked, revoked);
END;

-- Shared accounts, prices and terms; allowances are money, of which sites get rights alone.
CREATE TRIGGER object_account_new AFTER INSERT ON account BEGIN
  INSERT INTO object VALUES ('account', NEW.guid, (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_account AFTER UPDATE ON account BEGIN
  INSERT INTO object VALUES ('account', NEW.guid, (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_prices_new AFTER INSERT ON price_list BEGIN
  INSERT INTO object
    VALUES ('prices', CAST(NEW.version AS BLOB), (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_prices AFTER UPDATE ON price_list BEGIN
  INSERT INTO object
    VALUES ('prices', CAST(NEW.version AS BLOB), (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_prices_gone AFTER DELETE ON price_list BEGIN
  INSERT INTO object
    VALUES ('prices', CAST(OLD.version AS BLOB), (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_terms_new AFTER INSERT ON terms BEGIN
  INSERT INTO object VALUES ('terms', CAST(NEW.id AS BLOB), (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;
CREATE TRIGGER object_terms AFTER UPDATE ON terms BEGIN
  INSERT INTO object VALUES ('terms', CAST(NEW.id AS BLOB), (SELECT id FROM next_record), NULL)
    ON CONFLICT (kind, key) DO UPDATE SET position = excluded.position;
END;

-- At a site: which objects came from upstream, and in which taking of the copy each was seen last.
CREATE TABLE replica (
  kind TEXT NOT NULL,
  key BLOB NOT NULL,
  round INTEGER NOT NULL,
  PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX replica_round ON replica (round);
-- One row: whose copy it is, and how far it has come.
CREATE TABLE copy (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  fields BLOB NOT NULL
);
-- What was the site's own and had to make way. key: of a person, whose name is looked up.
CREATE TABLE conflict (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  key BLOB NOT NULL,
  name TEXT NOT NULL,
  became TEXT NOT NULL,
  happened_us INTEGER NOT NULL
);
