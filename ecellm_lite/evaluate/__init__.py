"""How good the answers are: the metrics of the paper, calibration, and reports."""
