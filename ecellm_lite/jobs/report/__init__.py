"""The report of a job: one page that a browser opens from disk, without a network or scripts."""
