"""HTML pages: what the reports on evaluations and on jobs have in common."""
