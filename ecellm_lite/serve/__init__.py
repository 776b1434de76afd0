"""The HTTP server: answers tasks, decisions, texts and batches with an Answerer, and shows metrics and a web page."""
