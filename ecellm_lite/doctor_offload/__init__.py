"""Runs one row on the CPU and on the GPU.

Each run has its own process, so the doctor survives their crashes.
"""
