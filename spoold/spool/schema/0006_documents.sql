-- Jobs of several documents, each delivered by attempts of its own, in their order.

-- documents: how many; next_document: the number of the one that is printed next, or was last;
-- size: of all of them in bytes, NULL while there is but one.
ALTER TABLE job ADD COLUMN documents INTEGER NOT NULL DEFAULT 1;
ALTER TABLE job ADD COLUMN next_document INTEGER NOT NULL DEFAULT 1;
ALTER TABLE job ADD COLUMN size INTEGER;
-- Copies of a document that says itself how many it makes; NULL: those of its job.
ALTER TABLE document ADD COLUMN copies INTEGER;
ALTER TABLE attempt ADD COLUMN document INTEGER NOT NULL DEFAULT 1;
