"""A trained network at work: a classifier for any picture, and the web application around it."""
