"""Several runs compared on the same images."""
