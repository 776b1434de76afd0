"""The protocol of JSON lines, in which `ecellm-lite pipe` gives answers; ChildRuntime asks a child process in it."""
