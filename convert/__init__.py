"""Writing GGUF files: installed as `ecellm_lite.convert`."""
