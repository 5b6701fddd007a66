"""Safe decoding of untrusted pictures."""
