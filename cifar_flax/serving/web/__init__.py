"""The demo: a page, an API and the server under them."""
