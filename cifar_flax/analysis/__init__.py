"""Evaluation of run directories: predictions, report.html, comparison of runs, robustness."""
