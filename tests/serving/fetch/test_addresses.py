import ipaddress
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_flax.serving.errors import Busy, FetchRefused
from cifar_flax.serving.fetch import addresses
from cifar_flax.serving.fetch.addresses import is_public, resolve

# https://www.iana.org/assignments/iana-ipv4-special-registry, and multicast: all that is not for the public internet.
PRIVATE_V4 = """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32"""
# https://www.iana.org/assignments/iana-ipv6-special-registry, and multicast, site-local addresses and what is not assigned.
PRIVATE_V6 = """::/128 ::1/128 ::ffff:0:0/96 ::/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001::/32 2001:db8::/32
    2002::/16 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8 4000::/3 8000::/2"""
# Blocks that the registries hand out: https://www.iana.org/assignments/ipv6-unicast-address-assignments
PUBLIC_V6 = "2001:200::/23 2001:4800::/23 2400::/12 2600::/12 2800::/12 2a00::/12 2c00::/12"
NETWORKS_V4, NETWORKS_V6 = ([ipaddress.ip_network(n) for n in text.split()] for text in (PRIVATE_V4, PRIVATE_V6))


def one_of(networks):
    return st.sampled_from(networks).flatmap(lambda network: st.ip_addresses(network=network))


def is_refused(host):
    try:
        resolve(host, 80, 5)
    except FetchRefused as e:
        return e.status == 400
    return False


def forms(address):
    """An IPv4 address as inet_aton and IPv6 can write it."""
    a, b, c, d = address.packed
    n = int(address)
    dotted = [f"{a}.{b}.{c}.{d}", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a}.{b}.{(c << 8) + d}"]
    packed = [str(n), hex(n), f"0{n:o}", f"{a}.{n & 0xFFFFFF}", f"0x{a:X}.{n & 0xFFFFFF:#x}"]
    tunnels = [
        f"::ffff:{address}",
        f"::FFFF:{n >> 16:x}:{n & 0xFFFF:x}",
        f"::{address}",
        f"64:ff9b::{address}",
        f"64:ff9b:1::{address}",
        f"2002:{n >> 16:x}:{n & 0xFFFF:x}::1",
        f"2001:0:{n >> 16:x}:{n & 0xFFFF:x}::1",
        str(ipaddress.IPv6Address((0x20010000 << 96) + (0x08080808 << 64) + (n ^ 0xFFFFFFFF))),  # Teredo hides it like this
    ]
    return dotted, packed, tunnels


@settings(deadline=None)
@given(one_of(NETWORKS_V4))
def test_no_private_ipv4_address_is_reached_however_it_is_written(address):
    for host in (host for group in forms(address) for host in group):
        assert is_refused(host), host


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_no_ipv6_form_carries_an_ipv4_address_not_even_a_public_one(address):
    for host in forms(address)[2]:
        assert is_refused(host), host


@settings(deadline=None)
@given(one_of(NETWORKS_V6))
def test_no_private_ipv6_address_is_reached_however_it_is_written(address):
    for host in (address.compressed, address.exploded, address.exploded.upper()):
        assert is_refused(host), host


@settings(deadline=None)
@given(st.ip_addresses(v=4).filter(lambda address: not any(address in network for network in NETWORKS_V4)))
def test_public_ipv4_addresses_are_reached(address):
    assert is_public(address)
    for host in forms(address)[0] + forms(address)[1]:
        assert resolve(host, 80, 5) == [str(address)]


@settings(deadline=None)
@given(one_of([ipaddress.ip_network(network) for network in PUBLIC_V6.split()]).filter(lambda a: a not in NETWORKS_V6[9]))
def test_public_ipv6_addresses_are_reached(address):
    assert is_public(address)
    assert resolve(address.exploded, 80, 5) == [str(address)]


def entries(*addresses):
    return [(socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in addresses]


@pytest.mark.parametrize("private", ["10.0.0.1", "::1", "fe80::1%eth0", "::ffff:10.0.0.1"])
def test_one_private_address_among_public_ones_is_enough(private, monkeypatch):
    for answer in ([private, "93.184.215.14"], ["93.184.215.14", "2606:2800:21f::1", private]):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, answer=answer, **__: entries(*answer))
        with pytest.raises(FetchRefused) as caught:
            resolve("pictures.example", 80, 1)
        assert private not in str(caught.value)
        assert resolve("pictures.example", 80, 1, allow_private=True) == answer


def test_names_that_exist_in_private_read_like_names_that_do_not_exist(monkeypatch):
    def answer(host, *_, **__):
        if host == "intranet.example":
            return entries("10.0.0.1")
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    messages = set()
    for name in ("intranet.example", "nowhere.example"):
        with pytest.raises(FetchRefused) as caught:
            resolve(name, 80, 1)
        messages.add((str(caught.value).replace(name, ""), caught.value.code, caught.value.status))
    assert len(messages) == 1


def test_a_silent_name_server_is_not_waited_for(monkeypatch):
    release, asked = threading.Event(), []

    def slowly(host, *_, **__):
        asked.append(host)
        release.wait()
        return entries("93.184.215.14")

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    slots = threading.BoundedSemaphore(2)
    monkeypatch.setattr(addresses, "_lookups", slots)
    try:
        for error in (TimeoutError, TimeoutError, Busy, Busy):  # the last two are told that it is not their host's fault
            with pytest.raises(error):
                resolve("slow.example", 80, 0.1)
        assert len(asked) == 2
    finally:
        release.set()
    assert resolve("slow.example", 80, 20) == ["93.184.215.14"]
    assert slots.acquire(timeout=5)  # what was taken is given back
    assert slots.acquire(timeout=5)
