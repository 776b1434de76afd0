"""Measures the speed of a model on this machine, and finds settings that make it faster."""
