-- Jobs in doubt, so that they can be counted at any time.
CREATE INDEX job_in_doubt ON job (printer_id)
  WHERE state = 4 AND finished_us IS NULL AND instr(reasons, 'job-in-doubt') > 0;
