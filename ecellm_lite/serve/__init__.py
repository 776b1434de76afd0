"""The HTTP server. It answers tasks, typed decisions, text requests and batches, and has metrics and a web page."""
