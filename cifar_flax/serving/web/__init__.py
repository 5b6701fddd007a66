"""The demo: page, API and server."""
