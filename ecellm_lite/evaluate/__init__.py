"""Measures a model's answers on labelled rows: the paper's metrics, calibration, and reports."""
