"""Bundles (one file with everything for a machine without a network), and feeds, from which machines pull models."""
