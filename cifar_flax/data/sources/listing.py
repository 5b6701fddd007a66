"""Which files of a folder of pictures are read, and what is left out.

Three layouts are known, and tried in this order: SPLIT/CLASS/*.png; a CSV file with the names and classes of pictures; and
CLASS/*.png without splits.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cifar_flax.data.class_names import checked_names
from cifar_flax.data.pictures.files import is_picture
from cifar_flax.data.sources.label_tables import SPLIT_OF, SPLITS, read_tables
from cifar_flax.errors import UserError

LITTER = ("__macosx", "@eadir", "thumbs.db", "desktop.ini", "icon\r")  # that operating systems leave beside the hidden files
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
      left_out_rows: what is left out of CSV files, in words.
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
    left_out_rows: Sequence[str] = ()

    def has_nested(self, split: str, name: str) -> bool:
        """Whether there are pictures in folders below that of a class."""
        return self.nested[split, name] > 0

    @property
    def left_out(self) -> list[str]:
        """What is not read although it may have been meant to be, with counts."""
        parts = [f"{_pictures(sum(self.nested.values()))} in folders below those of classes"] * bool(self.nested)
        parts += [f"{_pictures(self.loose)} outside of classes"] * bool(self.loose)
        parts += [f"{_pictures(count)} in {name}/" for name, count in sorted(self.outside.items())]
        parts += [_plural(self.dangling, "link that leads nowhere", "links that lead nowhere")] * bool(self.dangling)
        parts += [_plural(self.special, "pipe or device", "pipes or devices")] * bool(self.special)
        if self.other:
            suffixes = [suffix or "no suffix" for suffix, _ in self.other.most_common(SHOWN)]
            more = ", ..." if len(self.other) > SHOWN else ""
            parts.append(f"{_plural(self.other.total(), 'other file', 'other files')} ({', '.join(suffixes)}{more})")
        return [*parts, *self.left_out_rows]


def list_pictures(root: Path) -> Listing:
    """Lists the pictures of a folder.

    Names that begin with a dot, and what operating systems leave in folders, are no part of it.

    Raises:
      OSError: a folder or a CSV file cannot be read.
      UserError: two folders are of one split; a CSV file cannot be understood; or the name of a class is not UTF-8, holds
        control characters, or is that of another, spelt otherwise in Unicode.
    """
    listing = _list_splits(root)
    if any(listing.splits.get("train", {}).values()):
        return listing
    if (table := read_tables(root)) is not None:
        return Listing(dict(table.splits), table.undivided, left_out_rows=table.left_out)
    undivided = Listing({"train": {}}, undivided=True, folders={"train": root})
    if not listing.splits.get("train"):
        _list_classes(undivided, "train", root)
    # A class may be called train, as in CIFAR-100; folders that are all called like splits are none.
    classes = [name for name, pictures in undivided.splits["train"].items() if pictures and name.lower() not in SPLIT_OF]
    return undivided if classes else listing


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
            listing.nested[split, name] += _count_pictures(entry.path)
        elif kind == "link":
            listing.dangling += 1
        elif not is_picture(entry.name):
            listing.other[Path(entry.name).suffix.lower()] += 1
        elif kind == "file":
            yield Path(entry.path)
        else:
            listing.special += 1
    listing.nested += Counter()  # without those that are zero


def _entries(folder: Path | str) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in LITTER]
    return sorted(visible, key=lambda entry: entry.name)


def _kind(entry: "os.DirEntry[str]") -> str:
    """What an entry is, or leads to: a folder, a file, a link that leads nowhere, or something special."""
    with contextlib.suppress(OSError):  # a link to itself
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        if not entry.is_symlink() or os.path.exists(entry.path):
            return "special"
    return "link"


def _count_pictures(folder: str) -> int:
    """The pictures in a folder and below, as far as it can be listed, without following links to folders."""
    return sum(sum(map(is_picture, files)) for _, _, files in os.walk(folder))


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
