"""The memory that a process may use: with too little, libraries fail to load, XLA aborts, or pages are read again and again."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from cifar_flax.errors import UserError

NEEDED = 640 << 20  # bytes; a network of 2,000 parameters trains in 376 MB
ADDRESSES_NEEDED = 3 << 30  # bytes; libraries and the stacks of threads count with their whole size
CGROUP, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def check_memory() -> None:
    """Checks that there is enough for the smallest network.

    Raises:
      UserError: there is not.
    """
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    if addresses != resource.RLIM_INFINITY and addresses < ADDRESSES_NEEDED:
        raise UserError(
            f"memory: this process may map {addresses >> 20} MB, and no less than {ADDRESSES_NEEDED >> 20} MB will do; "
            "raise the limit (ulimit -v)"
        )
    limit = usable_memory()
    if limit < NEEDED:
        raise UserError(
            f"memory: this process may use {limit >> 20} MB, and no less than {NEEDED >> 20} MB will do; give it more"
        )


def check_allocation(where: str, size: int) -> None:
    """Checks that arrays of so many bytes may be made; the memory that this process may use has to hold twice as many.

    Raises:
      UserError: they would be too large.
    """
    most = usable_memory() // 2
    if size > most:
        raise UserError(f"{where}: unpacks to {size:,} bytes, more than the {most:,} that are allowed")


def usable_memory() -> int:
    """Bytes that the processes of this container, or of this machine, may use."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *cgroup_limits(CGROUP, MOUNT)])


def cgroup_limits(cgroup: Path, mount: Path) -> Iterator[int]:
    """Yields the bytes that the control groups of this process grant, of either version; nothing where there are none.

    Args:
      cgroup: the file with a line for each group, hierarchy:controllers:path.
      mount: where the groups are mounted.
    """
    try:
        lines = cgroup.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, file = (mount / "memory", "memory.limit_in_bytes") if controllers else (mount, "memory.max")
        folder = root / path.strip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(root):
                try:
                    yield int((group / file).read_text(encoding="ascii"))
                except (OSError, ValueError):  # there is no such group in this container, or no limit ("max")
                    continue
