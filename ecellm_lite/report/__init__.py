"""Pages for a browser: what the report of an evaluation and that of a job have in common."""
