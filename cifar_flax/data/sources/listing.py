"""The files of a folder of pictures that are read, and those that are left out.

Three layouts are known, and tried in this order: SPLIT/CLASS/*.png; a table with the names and classes of pictures; and
CLASS/*.png without splits. They may lie below folders that hold nothing else, as archives wrap them.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cifar_flax.data.class_names import checked_names
from cifar_flax.data.pictures.files import is_picture, pictures_in
from cifar_flax.data.sources.label_tables import Tables, is_table, read_tables, tables_in
from cifar_flax.data.sources.split_names import SPLIT_OF, SPLITS
from cifar_flax.errors import UserError
from cifar_flax.files.walk import is_shown

SHOWN = 4  # suffixes of other files


@dataclass
class Listing:
    """The pictures of a folder.

    Attributes:
      splits: the files by split and class; splits in the order of `SPLITS`, all else sorted by name.
      undivided: whether the layout says nothing of splits; all pictures are in "train" then.
      folders: the folder of each split, as it is spelt.
      nested: how many pictures are in folders below that of their class, by split and class.
      outside: how many are in other folders beside the splits, by the folder's name.
      loose: how many are in the folder of a split and not in a class.
      dangling: how many links lead nowhere.
      special: how many are pipes or devices.
      other: how many files have another suffix, by suffix.
      left_out_tables: tables that are left out, and what is left out of others, in words.
    """

    splits: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    undivided: bool = False
    folders: dict[str, Path] = field(default_factory=dict)
    nested: Counter[tuple[str, str]] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    loose: int = 0
    dangling: int = 0
    special: int = 0
    other: Counter[str] = field(default_factory=Counter)
    left_out_tables: Sequence[str] = ()

    @property
    def filled_classes(self) -> int:
        """Number of classes that have pictures to train on."""
        return sum(map(bool, self.splits.get("train", {}).values()))

    def has_nested(self, split: str, name: str) -> bool:
        """Whether there are pictures in folders below that of a class."""
        return self.nested[split, name] > 0

    @property
    def left_out(self) -> list[str]:
        """Files that are not read although they may have been meant to be, with counts."""
        parts = [f"{_pictures(sum(self.nested.values()))} in folders below those of classes"] * bool(self.nested)
        parts += [f"{_pictures(self.loose)} outside of classes"] * bool(self.loose)
        parts += [f"{_pictures(count)} in {name}/" for name, count in sorted(self.outside.items())]
        parts += [_plural(self.dangling, "link that leads nowhere", "links that lead nowhere")] * bool(self.dangling)
        parts += [_plural(self.special, "pipe or device", "pipes or devices")] * bool(self.special)
        if self.other:
            suffixes = [suffix or "no suffix" for suffix, _ in self.other.most_common(SHOWN)]
            more = ", ..." if len(self.other) > SHOWN else ""
            parts.append(f"{_plural(self.other.total(), 'other file', 'other files')} ({', '.join(suffixes)}{more})")
        return [*parts, *self.left_out_tables]


def list_pictures(root: Path) -> Listing:
    """Lists the pictures of a folder.

    Names that begin with a dot, and what operating systems leave in folders, are no part of it.

    Raises:
      OSError: a folder or a table cannot be read.
      UserError: a folder beside a table cannot be listed; two folders are of one split; a table cannot be understood, and
        without it there are fewer than two classes; or the name of a class is not UTF-8, holds control characters, or is that
        of another, spelt otherwise in Unicode.
    """
    root = _without_wrappers(root)
    listing = _list_splits(root)
    if listing.filled_classes > 1:
        listing.left_out_tables = [f"{table.name} (folders name the classes)" for table in tables_in(root)]
        return listing
    tables = read_tables(root)
    if tables.splits:
        return Listing(tables.splits, tables.undivided, left_out_tables=tables.left_out)
    if not listing.splits.get("train"):
        listing = _list_undivided(root) or listing
    if listing.filled_classes < 2:
        _check_tables(root, tables)
    listing.left_out_tables = tables.left_out
    return listing


def _without_wrappers(root: Path) -> Path:
    """The folder of the layout: below those that hold a folder, which is no class or split, and no pictures or tables."""
    while True:
        entries = _entries(root)
        folders = [entry for entry in entries if _kind(entry) == "folder"]
        if len(folders) != 1 or folders[0].name.lower() in SPLIT_OF or any(_is_content(entry.name) for entry in entries):
            return root
        inner = _entries(folders[0].path)
        pictures = any(is_picture(entry.name) for entry in inner)
        if not any(is_table(entry.name) or (_kind(entry) == "folder" and not pictures) for entry in inner):
            return root
        root = Path(folders[0].path)


def _is_content(name: str) -> bool:
    return is_picture(name) or is_table(name)


def _check_tables(root: Path, tables: Tables) -> None:
    """Refuses tables that were meant to name the classes and are not read."""
    if tables.not_understood:
        raise UserError(tables.not_understood[0])
    for entry in _entries(root):
        if _kind(entry) == "folder" and (below := tables_in(Path(entry.path))) and _count_pictures(entry.path):
            raise UserError(f"{below[0]}: is not read there; move it to {root / (entry.name + below[0].suffix)}")


def _list_splits(root: Path) -> Listing:
    """The pictures of SPLIT/CLASS/."""
    listing = Listing()
    folders = [entry for entry in _entries(root) if _kind(entry) == "folder"]
    for entry in folders:
        split = SPLIT_OF.get(entry.name.lower())
        if split in listing.folders:
            raise UserError(
                f"{root}: {listing.folders[split].name}/ and {entry.name}/ are both of the {split} split; merge them"
            )
        if split:
            listing.folders[split] = Path(entry.path)
    for split in SPLITS:
        if split in listing.folders:
            listing.splits[split] = {}
            _list_classes(listing, split, listing.folders[split])
    for entry in folders:
        if Path(entry.path) not in listing.folders.values() and (count := _count_pictures(entry.path)):
            listing.outside[entry.name] = count
    return listing


def _list_undivided(root: Path) -> Listing | None:
    """The pictures of CLASS/; None where there are none."""
    listing = Listing({"train": {}}, undivided=True, folders={"train": root})
    _list_classes(listing, "train", root)
    # A class may be called train, as in CIFAR-100; folders that are all called like splits are none.
    classes = [name for name, pictures in listing.splits["train"].items() if pictures and name.lower() not in SPLIT_OF]
    return listing if classes else None


def _list_classes(listing: Listing, split: str, folder: Path) -> None:
    """Adds the pictures of FOLDER/CLASS/ to a split."""
    by_class = listing.splits[split]
    for entry in _entries(folder):
        kind = _kind(entry)
        if kind == "folder":
            name = _class_name(entry.path, entry.name, by_class)
            by_class[name] = list(_files_of_class(listing, split, name, entry.path))
        elif kind == "link":
            listing.dangling += 1
        elif is_picture(entry.name):
            listing.loose += 1
    listing.splits[split] = dict(sorted(by_class.items()))


def _files_of_class(listing: Listing, split: str, name: str, folder: str) -> Iterator[Path]:
    for entry in _entries(folder):
        kind = _kind(entry)
        if kind == "folder":
            if count := _count_pictures(entry.path):
                listing.nested[split, name] += count
        elif kind == "link":
            listing.dangling += 1
        elif not is_picture(entry.name):
            listing.other[Path(entry.name).suffix.lower()] += 1
        elif kind == "file":
            yield Path(entry.path)
        else:
            listing.special += 1


def _entries(folder: Path | str) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if is_shown(entry.name)), key=lambda entry: entry.name)


def _kind(entry: "os.DirEntry[str]") -> str:
    """The kind of an entry, or of its target: a folder, a file, a link that leads nowhere, or something special."""
    with contextlib.suppress(OSError):  # a link to itself
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        if not entry.is_symlink() or os.path.exists(entry.path):
            return "special"
    return "link"


def _count_pictures(folder: str) -> int:
    """How many pictures are left out with a folder, as far as it can be listed."""
    return len(pictures_in(Path(folder), {}))


def _class_name(path: str, name: str, others: dict[str, list[Path]]) -> str:
    try:
        (checked,) = checked_names(path, [name])
    except UserError as e:
        raise UserError(f"{e}; rename the folder") from None
    if checked in others:
        raise UserError(f"{path}: there are two folders of this name, in two spellings of Unicode; rename one or merge them")
    return checked


def _pictures(count: int) -> str:
    return _plural(count, "picture", "pictures")


def _plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
