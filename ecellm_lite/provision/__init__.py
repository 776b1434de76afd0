"""A model made ready to use: downloaded, converted, checked and stored. Here the converter meets the engine."""
