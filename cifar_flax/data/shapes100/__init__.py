"""The embedded data set: 100 procedurally drawn classes."""
