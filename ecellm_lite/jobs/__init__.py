"""Files in, files out: a job answers every row of a file."""
