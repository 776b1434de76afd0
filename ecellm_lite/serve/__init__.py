"""The HTTP server: tasks, decisions, texts, batches, metrics and a web page, over an Answerer (see answerer.py)."""
