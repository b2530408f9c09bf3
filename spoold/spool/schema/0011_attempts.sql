-- Names of documents, and devices that were given another address under an attempt.

-- document-name (PWG 5100.5) as it came with the document; that of a job with one document stands
-- among the job's attributes.
ALTER TABLE document ADD COLUMN name TEXT;
-- The URI that the attempt's device had when it began, where it was given another one before the
-- attempt ended: the first of several. NULL otherwise.
ALTER TABLE attempt ADD COLUMN device_uri TEXT;
