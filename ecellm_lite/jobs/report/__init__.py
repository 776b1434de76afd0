"""The report of a job: an HTML page without scripts, which needs no network."""
