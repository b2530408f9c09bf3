-- job.attempts is the number of the last attempt; so many of them are not counted, because spoold
-- itself ended them before anything had left.
ALTER TABLE job ADD COLUMN uncounted INTEGER NOT NULL DEFAULT 0;
