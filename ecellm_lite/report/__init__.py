"""Pages for a browser: the common parts of the reports on evaluations and on jobs."""
