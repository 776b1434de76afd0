"""Recognizes a model's chat template by the hash of its text. Templates are never rendered."""

from __future__ import annotations

import hashlib

# The SHA-256 of each template's text without white space around it, and its chat form.
KNOWN: dict[str, str] = {
    # meta-llama-Llama-3.1-8B-Instruct
    "93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7": "llama3.1",
    # meta-llama-Llama-3.2-3B-Instruct
    "d82792f95932f1c9cef5c4bd992f171225e3bf8c7b609b4557c9e1ec96be819f": "llama3.1",
    # Qwen-Qwen2.5-7B-Instruct
    "55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a": "qwen2.5",
    # Qwen-Qwen3-0.6B
    "87a2728cb8dc9fe424d624542f6060ec05a1d285ebbec578bb078900e33396b5": "qwen3",
    # HuggingFaceTB-SmolLM3-3B
    "cbc1d50f777ec029b33f53b23d7a224cceb65bcc8c7fac54946dbb56514e4d1e": "smollm3",
    # google-gemma-2-2b-it
    "ecd6ae513fe103f0eb62e8ab5bfa8d0fe45c1074fa398b089c93a7e70c15cfd6": "gemma",
    # microsoft-Phi-3.5-mini-instruct
    "78d976a442bcde2f0be15aafbb8e3050e1104f86732266f68403251b89982a90": "phi3",
    # mistralai-Mistral-Nemo-Instruct-2407
    "e7deee034838db2bfc7487788a3013d8a307ab69f72f3c54a85f06fd76007d4e": "mistral-nemo",
    # ibm-granite-granite-3.3-2B-Instruct
    "d0657ba05651bd2134160e7a9fbe40f1aa51ecb6bc2724618e34b04466291f87": "granite3.3",
    # SmolLM2-135M-Instruct
    "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788": "smollm2",
}


def known_form(template: str) -> str | None:
    """Return the name of the chat form (the envelope) of a known template, or None if the template is not known."""
    return KNOWN.get(hashlib.sha256(template.strip().encode("utf-8", "replace")).hexdigest())
