"""Tells this server's own pages from those of other sites, which a visitor's browser would let send requests here."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from flask import Request

from cifar_flax.errors import UserError
from cifar_flax.serving.errors import RequestError
from cifar_flax.serving.fetch import urls

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Hosts:
    """The names that a request may give this server in its Host header.

    Another site may have its name resolved to this server's address (DNS rebinding), and its pages then read what the server
    answers; but the browser still sends that name. localhost and loopback addresses are always accepted.

    Attributes:
      listening: the host and the address that the server listens on.
      allowed: other names: those by which a proxy or a router leads here. Their pages may send requests whose Host differs.
      any_address: accepts every IP address, which no other site can have as its name.
    """

    listening: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    any_address: bool = False

    @classmethod
    def of_server(cls, host: str, address: str, allowed: Sequence[str] = ()) -> Self:
        """The sites of a server on `address`, to which `host` resolves, that goes by the names `allowed` too.

        Raises:
          UserError: something in `allowed` is not a host.
        """
        listening = frozenset((host.removesuffix(".").lower(), address))
        return cls(listening, frozenset(map(_host, allowed)), ipaddress.ip_address(address.partition("%")[0]).is_unspecified)

    def check(self, request: Request) -> None:
        """Refuses a request that another site may have sent.

        Raises:
          RequestError: the Host is not this server's, or the request changes something and comes from a page of another site.
        """
        host = request.headers.get("Host", "")
        if not self._accepts(host):
            sentence = "The server does not go by the name in the address; its operator can add it with --allowed_hosts."
            raise RequestError(sentence, "bad_host", 400)
        if request.method not in SAFE_METHODS and self._is_cross_origin(request, host):
            raise RequestError("Pages of other sites may not send pictures here.", "cross_origin", 403)

    def _accepts(self, authority: str) -> bool:
        try:
            host, _ = urls.server(authority)
        except ValueError:
            return False
        if host == "localhost" or host in self.listening | self.allowed:
            return True
        try:
            return ipaddress.ip_address(host).is_loopback or self.any_address
        except ValueError:  # a name
            return False

    def _is_cross_origin(self, request: Request, host: str) -> bool:
        """Whether a page of another origin sends it. Programs, which are no browsers, send neither header.

        The rules are those of Go's http.CrossOriginProtection, https://pkg.go.dev/net/http#CrossOriginProtection.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site not in ("same-origin", "none")
        origin = request.headers.get("Origin")
        if origin is None:
            return False
        _, _, authority = origin.lower().partition("://")
        try:
            return authority != host.lower() and urls.server(authority) not in {(name, None) for name in self.allowed}
        except ValueError:  # "null", of a sandboxed page
            return True


def _host(text: str) -> str:
    try:
        host, port = urls.server(f"[{text}]" if text.count(":") > 1 and "[" not in text else text)
    except ValueError:
        host, port = "", None
    if not host or port is not None:
        raise UserError(f"--allowed_hosts={text}: expected a host without scheme and port, such as pictures.example.org")
    return host
