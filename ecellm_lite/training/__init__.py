"""Adapters from labelled rows: lessons are made where llama.cpp is, and learned where torch is (extra `train`)."""
