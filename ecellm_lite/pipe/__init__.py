"""JSON lines for a host process: `ecellm-lite pipe` serves an Answerer by them, and ChildRuntime asks one by them."""
