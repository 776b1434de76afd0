"""Runs one row on the CPU and on the GPU.

Each run has its own process, so a crash of the engine does not end the doctor.
"""
