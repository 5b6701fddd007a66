"""Hyper-parameter search: many runs of one config, in each of which some of its values differ."""
