"""Makes models and own tasks ready for use: downloads, converts, checks and stores them."""
