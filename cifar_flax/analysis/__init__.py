"""From a run directory to numbers and pictures: predictions, report.html, comparison of runs."""
