"""The demo model: a real language model that fits anywhere, to try everything before a large one is there."""
