"""The tables of README.md and docs/, generated from the results files."""
