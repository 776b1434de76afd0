"""The report of a job: one page that a browser opens from disk, with no network and no script."""
