"""Predictions for any picture: from the command line and from a web application."""
