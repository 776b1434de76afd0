"""HTTP: an Answerer for everything that speaks it, with tasks, typed decisions, texts, metrics and a page."""
