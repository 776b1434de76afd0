"""Trains adapters on labelled rows.

Making the lessons (training examples) needs llama.cpp; training on them needs torch (extra `train`).
"""
