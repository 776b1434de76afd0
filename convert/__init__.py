"""Checkpoints and adapters become GGUF files; installed as `ecellm_lite.convert`."""
