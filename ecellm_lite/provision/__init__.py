"""Makes a model ready for use: downloads, converts, checks and stores it. It uses both the converter and the engine."""
