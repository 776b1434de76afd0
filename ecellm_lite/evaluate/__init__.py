"""Measures a model's answers on labelled rows: the metrics of the paper, calibration, and reports."""
