"""Drives llama.cpp: runs many sequences at once over shared prefixes.

The engine knows neither tasks nor prompt formats.
"""
