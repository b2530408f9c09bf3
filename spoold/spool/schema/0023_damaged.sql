-- Jobs that ended as their document was missing or changed, so that they can be counted at any time.
CREATE INDEX job_damaged ON job (finished_us)
  WHERE finished_us IS NOT NULL AND instr(reasons, 'document-damaged') > 0;
