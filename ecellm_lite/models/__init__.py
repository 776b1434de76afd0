"""Where weights come from: the published models, the local store, and files read as hostile input."""
