"""Downloads from web addresses that strangers name."""
