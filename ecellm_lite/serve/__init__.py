"""The HTTP server over an Answerer: tasks, decisions, texts, batches, metrics and a web page."""
