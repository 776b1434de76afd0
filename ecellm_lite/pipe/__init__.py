"""The protocol of JSON lines: `ecellm-lite pipe` answers by it, and ChildRuntime is a client of such a process."""
