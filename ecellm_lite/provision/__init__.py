"""Makes a model ready for use: downloads, converts, checks and stores it. Uses both the converter and the engine."""
