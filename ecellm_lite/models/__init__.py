"""Where weights come from: the published models, the local store, and GGUF files, which are read as untrusted input."""
