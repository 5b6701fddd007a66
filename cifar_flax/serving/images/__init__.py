"""Safe decoding of untrusted images."""
