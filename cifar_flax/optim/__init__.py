"""Optimizers and learning-rate schedules from config."""
