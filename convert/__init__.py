"""Converts checkpoints and adapters to GGUF files; installed as `ecellm_lite.convert`."""
