"""One file for a machine with no network: made, signed, checked and installed; and models from a chain's own server."""
