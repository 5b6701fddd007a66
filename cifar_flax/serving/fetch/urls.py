"""Parses web addresses that strangers write. All later steps use the parts and never the text."""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from cifar_flax.serving.errors import FetchRefused

PORTS = {"http": 80, "https": 443}
LONGEST_HOST = 200  # characters; names may have 253, but errors repeat them
MAX_LENGTH = 4096  # characters; servers rarely take more than 8,192 in a request line


class Url(NamedTuple):
    """The parts of a web address.

    Attributes:
      scheme: "http" or "https".
      host: ASCII and lower case: a name, or an address without brackets.
      port: the one given, or the scheme's own.
      target: path and query, as in the request line.
    """

    scheme: str
    host: str
    port: int
    target: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target}"


def parse(text: str, any_port: bool = False) -> Url:
    """Parses a web address.

    Args:
      text: the address; spaces around it are ignored, and letters in host and path need not be ASCII.
      any_port: allows more ports than 80 and 443. Pictures are on those two; through others, a stranger could have us speak to
        mail servers and databases.

    Raises:
      FetchRefused: it is not an http or https address, names a user or a password, or another port.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise FetchRefused(f"The address is longer than {MAX_LENGTH:,} characters.", "bad_address", 400)
    if re.match(r"(?!https?:)[a-z][a-z0-9+.-]*:(?!\d)", text, re.IGNORECASE):
        raise FetchRefused("Only http:// and https:// addresses are fetched.", "scheme_not_allowed", 400)
    if not re.match(r"https?://[^\\\x00-\x1f\x7f\ud800-\udfff]+$", text, re.IGNORECASE):
        raise FetchRefused("That is not a web address; it looks like https://example.org/picture.jpg.", "bad_address", 400)
    try:
        parts = urlsplit(text)
        if "@" in parts.netloc:
            raise FetchRefused("Addresses with a user name or a password are not fetched.", "credentials_in_address", 400)
        host, port = server(parts.netloc)
    except ValueError:
        raise FetchRefused("The server's name in the address cannot be read; check it.", "bad_address", 400) from None
    port = PORTS[parts.scheme] if port is None else port
    if not any_port and port not in PORTS.values():
        raise FetchRefused("Only the ports 80 and 443 are fetched from.", "port_not_allowed", 400)
    query = f"?{parts.query}" if parts.query else ""
    return Url(parts.scheme, host, port, quote((parts.path or "/") + query, safe="!#$%&'()*+,/:;=?@[]~"))


def server(authority: str) -> tuple[str, int | None]:
    """The host and the port of an authority such as example.org:8000.

    Returns:
      The host as in `Url`, without the final dot of a complete name, and the port if there is one.

    Raises:
      ValueError: it is neither a name nor an address.
    """
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:]+))(?::([0-9]{0,5}))?", authority, re.IGNORECASE)
    if not match or int(match[3] or 0) > 65535:
        raise ValueError
    address, name, port = match.groups()
    if address:
        host = str(ipaddress.IPv6Address(address))
    else:
        host = name.removesuffix(".").encode("idna").decode("ascii").lower()
        if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host) or len(host) > LONGEST_HOST:
            raise ValueError
    return host, int(port) if port else None
