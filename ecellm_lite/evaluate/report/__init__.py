"""The report of an evaluation: one page that a browser opens from disk, with no network and no script."""
