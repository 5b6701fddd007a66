"""Headers of every answer and the body of every error, for the application and the server under it."""

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
    """The JSON body of an error: a code for programs and a sentence for people."""
    return {"error": {"code": code, "message": message}}
