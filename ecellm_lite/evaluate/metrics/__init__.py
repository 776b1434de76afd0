"""The metrics of the paper, one file a kind of answer, on pairs of answer strings."""
