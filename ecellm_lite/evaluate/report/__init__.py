"""The report of an evaluation: one page that a browser opens from disk, without network or scripts."""
