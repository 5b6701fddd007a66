"""Files on disk: atomic replacement, checksums, redaction of what nobody else should read."""
