"""Answers one row on the CPU and on the GPU, and compares the two answers.

Each run has its own process, so a crash of the engine does not end `ecellm-lite doctor`.
"""
