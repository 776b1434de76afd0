"""Measures how fast this machine is with a model, and which settings make it faster."""
