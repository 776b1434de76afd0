"""Converts Hugging Face checkpoints and adapters to GGUF. Installed as `ecellm_lite.convert`."""
