"""JSON lines between processes: `ecellm-lite pipe` serves an Answerer with them, and ChildRuntime is a client."""
