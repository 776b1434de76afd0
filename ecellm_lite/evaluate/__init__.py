"""Measures the answers: the metrics of the paper, calibration, and reports."""
