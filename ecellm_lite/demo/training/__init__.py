"""How the demo's adapter is trained: `python -m ecellm_lite.demo.train`. Needs the extra `train` (torch, peft)."""
