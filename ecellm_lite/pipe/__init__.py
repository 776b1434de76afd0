"""The protocol of JSON lines that `ecellm-lite pipe` speaks. ChildRuntime uses it to talk to its child process."""
