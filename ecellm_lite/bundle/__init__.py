"""Makes, signs, checks and installs bundles: one file with everything for a machine without a network."""
