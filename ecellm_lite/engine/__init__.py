"""Drives llama.cpp: many sequences at once over shared prefixes. The engine knows neither tasks nor prompt formats."""
