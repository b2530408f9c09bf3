-- Jobs whose document is still to come, holds that end by themselves, and pages of a printer's jobs.

-- job.hold_until: the job-hold-until of a job that is held for it; release_us: when that ends.
ALTER TABLE job ADD COLUMN hold_until TEXT;
ALTER TABLE job ADD COLUMN release_us INTEGER;
CREATE INDEX job_release ON job (release_us) WHERE release_us IS NOT NULL;
-- The open jobs, and until when they wait for their next document. The document row of an empty
-- one has `stored` = 'none'.
CREATE TABLE incoming (
  job_id INTEGER PRIMARY KEY,
  deadline_us INTEGER NOT NULL
);
CREATE INDEX incoming_deadline ON incoming (deadline_us);
-- In the order in which they are listed, with all that a listing chooses by.
DROP INDEX job_unfinished;
CREATE INDEX job_unfinished ON job (printer_id, state, priority DESC, id, owner_id)
  WHERE finished_us IS NULL;
CREATE INDEX job_finished_on ON job (printer_id, finished_us, id, owner_id, state)
  WHERE finished_us IS NOT NULL;
