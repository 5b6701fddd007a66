"""Readers of data sets, one module a kind of file."""
