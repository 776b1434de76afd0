"""Gets a model ready for use: download, conversion, checks, store. It uses both the converter and the engine."""
