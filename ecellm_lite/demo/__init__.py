"""The demo model: a real language model, small enough to try everything on any machine."""
