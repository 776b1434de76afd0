"""How llama.cpp is driven: many sequences at once over shared prefixes. The engine knows no task and no prompt."""
