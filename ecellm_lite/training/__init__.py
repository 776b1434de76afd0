"""Trains adapters on labelled rows.

Making the lessons needs llama.cpp; training on them needs torch (extra `train`).
"""
