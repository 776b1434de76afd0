"""Converts model checkpoints (Hugging Face folders) and adapters to GGUF; installed as `ecellm_lite.convert`."""
