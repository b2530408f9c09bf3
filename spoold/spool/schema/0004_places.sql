-- Schedule-Job-After (RFC 3998): the waiting job that this one is to follow. A job that was promoted
-- has a priority beyond 100.
ALTER TABLE job ADD COLUMN after_id INTEGER;
CREATE INDEX job_after ON job (after_id) WHERE after_id IS NOT NULL;
