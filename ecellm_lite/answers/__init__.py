"""The answer spaces: which answers are allowed, and how one is decoded within them."""
