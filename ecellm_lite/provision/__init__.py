"""Gets a model ready for use: download, conversion, checks, store. Here the converter meets the engine."""
