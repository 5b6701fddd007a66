"""Resolves host names in bounded time, and tells public IP addresses from those that strangers may not send us to."""

import ipaddress
import queue
import socket
import threading
import time

from cifar_flax.serving.errors import Busy, FetchRefused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_LOOKUPS = 16  # at a time: the resolver cannot be interrupted, so a silent name server occupies its thread for a while

# Networks that `is_global` lets through, in Python 3.11 or later, although no picture on the public internet is there.
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
# The range in use as global unicast. Outside it are loopback, private and link-local addresses, multicast, and most forms that
# carry an IPv4 address: mapped ::ffff:0:0/96, compatible ::/96, NAT64 64:ff9b::/96 and 64:ff9b:1::/48.
# https://www.iana.org/assignments/ipv6-address-space
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def is_public(address: Address) -> bool:
    """Whether anyone on the internet can reach `address`: not loopback, private, reserved, or a tunnel to such."""
    if address.version == 6 and address not in GLOBAL_UNICAST:
        return False
    return address.is_global and not any(address in network for network in NOT_PUBLIC)


def resolve(host: str, port: int, seconds: float, allow_private: bool = False) -> list[str]:
    """Looks up the addresses of `host` and checks all of them.

    Args:
      host: a name, or an address in any form that the resolver knows: 127.1, 0x7f000001, 2130706433, ::1.
      port: of the service.
      seconds: how long to wait for the answer.
      allow_private: whether addresses that are not public are accepted.

    Returns:
      The addresses, in the resolver's order.

    Raises:
      FetchRefused: there is no such host, or one of its addresses is not public. Both messages are the same, so that nobody
        can find out which names a private network has.
      Busy: the resolver is still working on earlier names when the time is up.
      TimeoutError: no answer in time.
    """
    addresses = list(dict.fromkeys(_look_up(host, port, seconds)))
    if not addresses or not (allow_private or all(is_public(ipaddress.ip_address(address)) for address in addresses)):
        where = "" if allow_private else " on the public internet"
        raise FetchRefused(f"No server{where} is called {host}; check the address.", "unknown_host", 400)
    return addresses


_lookups = threading.BoundedSemaphore(MOST_LOOKUPS)


def _look_up(host: str, port: int, seconds: float) -> list[str]:
    """Asks the resolver, which has no time limit, in a thread that is abandoned when the time is up."""
    answer: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put([str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except (OSError, UnicodeError):
            answer.put([])
        finally:
            _lookups.release()

    deadline = time.monotonic() + seconds
    if not _lookups.acquire(timeout=seconds):
        raise Busy  # it is not the fault of `host`
    try:
        threading.Thread(target=ask, name="resolver", daemon=True).start()
    except RuntimeError:  # there can be no more threads
        _lookups.release()
        raise Busy from None
    try:
        return answer.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise TimeoutError from None
