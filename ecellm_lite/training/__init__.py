"""Trains adapters on labelled rows: making lessons needs llama.cpp, learning them needs torch (extra `train`)."""
