-- People who may come in, and certificates that providers and users hold.

-- A user is a person with roles; records name both by person.key. `fields` is packed, with room
-- for whatever else the directory will know of a user. `password` is an Argon2id hash (PHC string), empty
-- without one: it stands here alone, and in no record.
CREATE TABLE directory (
  person_id INTEGER PRIMARY KEY REFERENCES person (id),
  fields BLOB NOT NULL,
  password TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  changed_us INTEGER NOT NULL
);
-- The holder is a provider's guid, or a user's person.key.
ALTER TABLE certificate RENAME COLUMN provider_guid TO holder;
CREATE INDEX certificate_holder ON certificate (holder);
