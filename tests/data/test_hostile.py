"""Archives that no tool would write: each is read as a sound data set or refused in a line, and leaves nothing behind."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_flax.data.sources import archives
from cifar_flax.errors import UserError
from tests.data.conftest import binary_members, nothing_else, python_members, refused, write_tar

KINDS = [getattr(tarfile, f"{name}TYPE") for name in ("REG", "AREG", "LNK", "SYM", "CHR", "BLK", "DIR", "FIFO", "CONT")]
KINDS += [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, b"Z"]


class Touches:
    """What a pickle runs: a command that leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def assert_read_or_refused(path):
    with nothing_else(path.parent):
        message = ""
        try:
            splits = archives.read(path, "mine", allow_unverified=True).splits
        except UserError as error:
            message = str(error)
    if message:
        assert message.isprintable(), message
        assert str(path) in message
        assert len(message) < 600
        return
    for data in splits.values():
        assert data.images.dtype == np.uint8
        assert data.images.ndim == 4
        assert data.labels.shape == data.images.shape[:1]
        assert not len(data) or 0 <= data.labels.min() <= data.labels.max() < len(data.class_names)


@pytest.fixture(scope="session")
def sound(tiny):
    return {"binary": binary_members(tiny), "python": python_members(tiny)}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


names = st.sampled_from(
    ["train", "x/train", "/etc/train", "../../train", "meta", "test", "train.bin", "padding", "a" * 300, ""]
)
sizes = st.sampled_from([0, 1, 511, 512, 3074, 2**20, 2**33, 2**62, -1])


@st.composite
def headers(draw):
    """One header block of a tar archive."""
    info = tarfile.TarInfo(draw(names))
    info.type, info.size, info.linkname = draw(st.sampled_from(KINDS)), max(0, draw(sizes)), draw(names)
    if draw(st.booleans()):
        info.pax_headers = {
            draw(st.sampled_from(["size", "path", "GNU.sparse.map", "GNU.sparse.major", "x"])): str(draw(sizes))
        }
    data = draw(st.binary(max_size=600))
    kind = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    return info.tobuf(kind) + data.ljust(-(-len(data) // 512) * 512, b"\0")


def small(content):
    """The same without most of its bytes, for archives that are damaged elsewhere."""
    return content if len(content) < 5000 else content[:3074]


@settings(max_examples=2 * settings.default.max_examples)
@given(st.data())
def test_any_tarball_is_read_or_refused(sound, folder, data):
    members = dict(sound[data.draw(st.sampled_from(["binary", "python"]))])
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, whole in members.items():
            changed = data.draw(st.sampled_from([b"", small(whole), whole + whole[:1], whole[::-1], *[whole] * 20]))
            info = tarfile.TarInfo(name)
            info.size = len(changed)
            tar.addfile(info, io.BytesIO(changed))
    blocks = bytearray(raw.getvalue())
    for header in data.draw(st.lists(headers(), max_size=3)):
        at = 512 * data.draw(st.integers(0, 6))
        blocks[at:at] = header
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(blocks) - 1), st.integers(0, 255)), max_size=4)):
        blocks[at] = value
    packed = gzip.compress(bytes(blocks), 1) if data.draw(st.booleans()) else bytes(blocks)
    if data.draw(st.booleans()):
        packed = packed[: data.draw(st.integers(0, len(packed)))]
    path = folder / "a.tar.gz"
    path.write_bytes(packed)
    assert_read_or_refused(path)


VALUES = st.recursive(
    st.none()
    | st.integers()
    | st.binary(max_size=9)
    | st.text(max_size=9)
    | st.sampled_from([np.zeros((2, 3072), np.uint8), np.zeros(3), np.array([None]), np.float64("nan"), os.getcwd, Ellipsis]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "fine_labels", b"x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=2 * settings.default.max_examples)
@given(st.data())
def test_any_pickle_is_read_or_refused(sound, folder, data):
    content = sound["python"]["cifar-100-python/train"]
    if data.draw(st.booleans()):
        value = data.draw(VALUES | st.just(Touches(folder / "gotcha")))
        content = pickle.dumps(value, protocol=data.draw(st.integers(0, 5)))
    damaged = bytearray(content)
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4)):
        damaged[at % max(1, len(damaged)) : at % max(1, len(damaged)) + 1] = bytes([value])
    path = write_tar(folder / "a.tar.gz", {**sound["python"], "cifar-100-python/train": bytes(damaged)})
    assert_read_or_refused(path)


BOMBS = {
    "a place in the memo": b"\x80\x04Nr" + struct.pack("<I", 2**25) + b".",
    "a byte array": b"\x80\x05\x96" + struct.pack("<Q", 2**28) + b".",
    "an array without bytes": b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",
    "an array without bytes, rebuilt": (
        b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x0f\x85U\x01b\x87R."
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_pickle_of_a_few_bytes_takes_no_gigabytes(tar_writer, tmp_path, kind):
    write, _, python = tar_writer
    path = write(tmp_path / "a.tar.gz", {**python, "cifar-100-python/train": BOMBS[kind]})
    with nothing_else(tmp_path):
        refused(path, "train is not a CIFAR batch")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_member_with_a_name_of_megabytes_is_refused_before_it_is_read(tmp_path, kind):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 200 << 20
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(200):
            file.write(bytes(1 << 20))
    with nothing_else(tmp_path):
        refused(path, "not a tar archive")


def header(name, kind=tarfile.REGTYPE, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(**values):
    records = b""
    for key, value in values.items():
        length = len(key) + len(value) + 3
        length += len(str(length + len(str(length))))
        records += f"{length} {key}={value}\n".encode()
    return header("p", tarfile.XHDTYPE, len(records)) + records.ljust(-(-len(records) // 512) * 512, b"\0")


def sparse(name, size):
    """A member that holds nothing and stands for so many zeros."""
    block = bytearray(header(name, tarfile.GNUTYPE_SPARSE))
    block[386:410], block[483:495] = b"00000000000\0" * 2, b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


NEGATIVE = bytearray(header("x"))
NEGATIVE[124:136], NEGATIVE[148:156] = b"\xff" * 10 + b"\xfe\0", b" " * 8
NEGATIVE[148:156] = b"%06o\0 " % sum(NEGATIVE)
LONG_NAME = header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 60_000) + b"a" * 60_000 + bytes(-60_000 % 512)
TARBALLS = {
    "a hundred thousand empty members": (header("x") * 100_000, "more than 200 members"),
    "long names, one for the other": (LONG_NAME * 1000 + header("x"), "more than 200 members"),
    "a thousand attributes": (pax(comment="v" * 60_000) * 1000 + header("x"), "more than 200 members"),
    "attributes of a megabyte": (pax(comment="v" * 2**20) + header("x"), "not a tar archive"),
    "a sparse member": (sparse("train.bin", 2**27), "sparse"),
    "a negative size": (bytes(NEGATIVE) + header("x"), "not a tar archive"),
    "a negative size in the attributes": (pax(size="-1024") + header("x") * 2, "not a CIFAR archive"),
}


@pytest.mark.parametrize("kind", TARBALLS)
def test_a_tarball_that_is_costly_to_list_is_refused(tmp_path, kind):
    blocks, words = TARBALLS[kind]
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(blocks, 1))
    with nothing_else(tmp_path):
        refused(path, words)


def test_class_names_of_a_pickle_that_are_no_list_are_refused(tar_writer, tmp_path):
    write, _, python = tar_writer
    for names in (3, None, [1, 2], ["a", "a"], ["\x1b[2J"], {"a": 1}):
        meta = {b"fine_label_names": names, b"coarse_label_names": names}
        refused(write(tmp_path / "a.tar.gz", {**python, "cifar-100-python/meta": pickle.dumps(meta)}), "meta")


dtypes = st.sampled_from(
    ["|u1", "<i4", "<f8", "|O", "<U9", "|S3", "|b1", "<M8[s]", "|V8", "<c16", "[('a','<i4')]", "|u999", "x"]
)
shapes = st.lists(st.integers(0, 5) | st.sampled_from([60, 32, 2**31, 2**63, -1]), max_size=5).map(tuple)


@st.composite
def npy(draw):
    """An array file whose header says anything, with a few bytes behind it."""
    head = f"{{'descr': '{draw(dtypes)}', 'fortran_order': {draw(st.booleans())}, 'shape': {draw(shapes)}, }}"
    text = draw(st.just(head) | st.text(max_size=40)).encode().ljust(117) + b"\n"
    version = draw(st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\x09\0"]))
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text + draw(st.binary(max_size=64))


@settings(max_examples=2 * settings.default.max_examples)
@given(st.data())
def test_any_npz_is_read_or_refused(tiny, folder, data):
    path = folder / "a.npz"
    if data.draw(st.booleans()):
        with zipfile.ZipFile(path, "w", data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
            for name in data.draw(
                st.lists(st.sampled_from(["train_images", "train_labels", "class_names", "../x"]), max_size=4)
            ):
                archive.writestr(f"{name}.npy", data.draw(npy()))
    else:
        np.savez_compressed(path, train_images=tiny["train"].images[:9, :8, :8], train_labels=tiny["train"].labels[:9])
    damaged = bytearray(path.read_bytes())
    places = st.integers(0, len(damaged) - 1) | st.integers(max(0, len(damaged) - 300), len(damaged) - 1)
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        damaged[at] = value
    path.write_bytes(damaged)
    assert_read_or_refused(path)


def test_an_npz_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, train_images=np.zeros((1000, 32, 32), np.uint8), train_labels=np.zeros(1000, int))
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 400}[name])
    refused(path, "more than the 819,200 that are allowed")


def test_an_npz_with_a_password_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, train_images=np.zeros((2, 8, 8), np.uint8))
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + flags] |= 1
    path.write_bytes(data)
    refused(path, "encrypted")
