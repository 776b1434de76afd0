"""The metrics of the paper on pairs of answer strings, one file for each kind of answer."""
