"""The answer spaces: which answers are allowed, and how an answer is decoded within them."""
