"""The command line: one file a command. Nothing else imports it."""
