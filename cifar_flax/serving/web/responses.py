"""What every answer of the demo has in common, whether the application gives it or the server under it."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    """An error as JSON has it: a code for programs, a sentence for people."""
    return {"error": {"code": code, "message": message}}
