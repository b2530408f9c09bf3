-- The bytes of the documents that a finished job keeps. NULL: it keeps none, as most of a million do,
-- and nobody who counts or removes documents looks at those.
ALTER TABLE job ADD COLUMN kept_bytes INTEGER;
UPDATE job SET kept_bytes = coalesce(size, (SELECT size FROM document WHERE id = job.id * 4096 + 1))
  WHERE finished_us IS NOT NULL AND
  (SELECT stored FROM document WHERE id = job.id * 4096 + 1) IN ('inline', 'file');
CREATE INDEX job_kept ON job (finished_us, kept_bytes) WHERE kept_bytes IS NOT NULL;
-- Documents in files by the names of these, for the look after a start whether all are there.
CREATE INDEX document_file ON document (file, id, size) WHERE stored = 'file';
