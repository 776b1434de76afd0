"""The demo model: a real language model small enough for any machine, to try everything without a large one."""
