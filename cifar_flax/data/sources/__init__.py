"""Sources of data sets, one module per kind."""
