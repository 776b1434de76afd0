"""The command line: one file for each command. Nothing else imports it."""
