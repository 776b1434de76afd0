"""An HTTP server for an Answerer: tasks, typed decisions, texts, batches, metrics and a page."""
