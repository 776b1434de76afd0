"""Where weights come from: the published models, the local store, and GGUF files read as hostile input."""
