"""Converts Hugging Face checkpoints and adapters to GGUF. The package is installed as `ecellm_lite.convert`."""
