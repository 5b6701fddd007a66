"""Evaluation of run directories: predictions, reports, comparison of runs, robustness."""
