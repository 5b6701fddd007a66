"""Fetches files from web addresses that strangers name, without giving them access to our network (SSRF).

A redirect may lead from https to http: nothing secret is sent, and an encrypted connection makes a picture no safer.
"""

import http.client
import ssl
from dataclasses import dataclass
from urllib.parse import urljoin

from cifar_flax._version import __version__
from cifar_flax.serving.errors import FetchFailed
from cifar_flax.serving.fetch import urls
from cifar_flax.serving.fetch.pinned_http import Deadline, PinnedConnection, ResponseTooLarge
from cifar_flax.serving.fetch.urls import Url

HEADERS = {"User-Agent": f"cifar_flax/{__version__}", "Accept": "image/*", "Connection": "close"}
REDIRECTS = (301, 302, 303, 307, 308)
OVERHEAD = 2**20  # bytes of headers and chunk sizes, beyond those of the file
CHUNK = 2**16  # bytes


@dataclass(frozen=True)
class FetchLimits:
    """Limits of one fetch.

    Attributes:
      seconds: from the look-up of the name to the last byte after the last redirect.
      bytes: largest file.
      redirects: most redirects that are followed.
    """

    seconds: float = 10.0
    bytes: int = 20 * 2**20
    redirects: int = 3


def fetch(url: str, limits: FetchLimits = FetchLimits(), allow_private: bool = False) -> bytes:
    """Downloads the file at a web address.

    Only http and https are fetched, on the ports 80 and 443, from servers all of whose addresses are public. The same holds for
    every redirect.

    Args:
      url: the address.
      limits: on time, bytes and redirects.
      allow_private: allows any port and any server that can be reached from here: for tests and intranets.

    Raises:
      FetchRefused: we do not ask this address, or one that it redirects to.
      FetchFailed: there is no answer with a file within the limits.
      Busy: too many names are being looked up.
    """
    deadline = Deadline(limits.seconds)
    current = urls.parse(url, any_port=allow_private)
    for _ in range(limits.redirects + 1):
        answer = _get(current, deadline, limits, allow_private)
        if isinstance(answer, bytes):
            return answer
        current = urls.parse(answer, any_port=allow_private)
    raise FetchFailed(f"The address redirects more than {limits.redirects} times.", "too_many_redirects", 424)


def _get(url: Url, deadline: Deadline, limits: FetchLimits, allow_private: bool) -> bytes | str:
    """The file, or the address of a redirect."""
    try:
        with PinnedConnection(url, deadline, limits.bytes + OVERHEAD, allow_private) as connection:
            connection.request("GET", url.target, headers=HEADERS)
            response = connection.getresponse()
            if response.status in REDIRECTS and response.headers["Location"]:
                return urljoin(str(url), response.headers["Location"].encode("latin-1").decode(errors="replace"))
            return _body(url, response, limits.bytes)
    except TimeoutError:
        raise FetchFailed(f"{url.host} took longer than {limits.seconds:g} seconds.", "too_slow", 424) from None
    except ResponseTooLarge:
        raise _too_large(limits.bytes) from None
    except ssl.SSLCertVerificationError:
        raise FetchFailed(f"{url.host} has no certificate that is valid for its name.", "bad_certificate", 424) from None
    except (OSError, ValueError, http.client.HTTPException):
        raise FetchFailed(f"{url.host} broke off, or does not answer as web servers do.", "bad_answer", 424) from None


def _body(url: Url, response: http.client.HTTPResponse, most: int) -> bytes:
    if response.status != 200:
        raise FetchFailed(f"{url.host} answered with status {response.status} instead of a file.", "bad_status", 424)
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise FetchFailed(f"{url.host} sends the file compressed, which was not asked for.", "compressed", 424)
    if (response.length or 0) > most:
        raise _too_large(most)
    body = bytearray()
    while chunk := response.read(CHUNK):
        body += chunk
        if len(body) > most:
            raise _too_large(most)
    if response.length:  # http.client does not mind when less comes than was announced
        raise http.client.IncompleteRead(b"")
    return bytes(body)


def _too_large(most: int) -> FetchFailed:
    return FetchFailed(f"The file has more than {most / 2**20:g} MB, which is the limit.", "too_large", 413)
