"""A job answers every row of a file, and writes the answers to another file."""
