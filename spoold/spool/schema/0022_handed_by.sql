-- Who handed a job on to this node: that one alone may cancel it for whoever canceled it there.
-- `line`: it came over the line of this site. Empty for jobs that nobody handed on, or before this.
ALTER TABLE job ADD COLUMN handed_by TEXT NOT NULL DEFAULT '';
