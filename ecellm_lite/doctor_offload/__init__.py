"""Runs one row on the CPU and on the GPU, each in a process of its own, so that the doctor survives their crashes."""
