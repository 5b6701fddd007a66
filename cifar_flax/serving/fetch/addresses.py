"""Which addresses of the internet protocol a stranger may send us to, and how names become addresses in bounded time."""

import ipaddress
import queue
import socket
import threading

from cifar_flax.serving.errors import FetchRefused
from cifar_flax.serving.web.admission import Busy

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_LOOKUPS = 16  # at a time: the resolver cannot be interrupted, so a name server that is silent keeps its thread for a while

# What `is_global` lets through, in Python 3.11 or later, although no picture on the public internet is there.
# https://www.iana.org/assignments/iana-ipv4-special-registry
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # protocol assignments, among them a cloud's metadata server, 192.0.0.192
            "192.88.99.0/24",  # 6to4 relays
            "224.0.0.0/4",  # multicast
            "168.63.129.16/32",  # inside every Azure machine: its host
            "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
            "2002::/16",  # 6to4, which carries any IPv4 address
            "3fff::/20",  # documentation, RFC 9637
        ),
    )
)
# All that is in use as global unicast. Outside it are loopback, private and link-local addresses and multicast, and most forms
# that carry an IPv4 address: mapped ::ffff:0:0/96, compatible ::/96, NAT64 64:ff9b::/96 and 64:ff9b:1::/48.
# https://www.iana.org/assignments/ipv6-address-space
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def is_public(address: Address) -> bool:
    """Whether anyone on the internet can reach `address`: not loopback, private, reserved, or a tunnel to such."""
    if address.version == 6 and address not in GLOBAL_UNICAST:
        return False
    return address.is_global and not any(address in network for network in NOT_PUBLIC)


def resolve(host: str, port: int, seconds: float, allow_private: bool = False) -> list[str]:
    """The addresses of `host` in the resolver's order, all of them checked.

    Args:
      host: a name, or an address in any form that the resolver knows: 127.1, 0x7f000001, 2130706433, ::1.
      port: of the service.
      seconds: how long to wait for the answer.
      allow_private: whether addresses that are not public will do.

    Raises:
      FetchRefused: there is no such host, or one of its addresses is not public. The two read the same, so that nobody can
        find out which names a private network has.
      Busy: the resolver is still at names that it was asked for before, and stays so.
      TimeoutError: no answer in time.
    """
    found = list(dict.fromkeys(_look_up(host, port, seconds)))
    if not found or not (allow_private or all(is_public(ipaddress.ip_address(address)) for address in found)):
        where = "" if allow_private else " on the public internet"
        raise FetchRefused(f"No server{where} is called {host}; check the address.", "unknown_host", 400)
    return found


_lookups = threading.BoundedSemaphore(MOST_LOOKUPS)


def _look_up(host: str, port: int, seconds: float) -> list[str]:
    """Asks the resolver, which knows no time limit of its own, in a thread that is left behind when time is up."""
    answer: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put([str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except (OSError, UnicodeError):
            answer.put([])
        finally:
            _lookups.release()

    if not _lookups.acquire(timeout=seconds):
        raise Busy  # which is not the fault of `host`
    threading.Thread(target=ask, name="resolver", daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
