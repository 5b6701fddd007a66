"""The pictures of a folder by the names that tables give them: with their folder or without, with their suffix or without."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cifar_flax.data.class_names import composed
from cifar_flax.data.pictures.files import SUFFIXES, is_picture, pictures_in
from cifar_flax.data.sources.split_names import SPLIT_OF, split_of_folders
from cifar_flax.errors import UserError

SHOWN = 4  # suffixes in a message


class NamedPictures:
    """The pictures below a folder, found by the names that tables use, each once.

    Names are compared in Unicode's composed form: a table has "é" as one character, and macOS names files with two.
    """

    def __init__(self, root: Path) -> None:
        """Lists the pictures below `root`."""
        self._root = root
        self._taken: dict[Path, str] = {}
        paths = [path for path in pictures_in(root) if path.is_file()]
        self._count = len(paths)
        self._above = [composed(f"{path}/") for path in (os.path.abspath(root), os.path.realpath(root))]
        self._folders_of: dict[str, list[str]] = {}  # by the split that they name
        for entry in root.iterdir():
            if (split := SPLIT_OF.get(entry.name.lower())) and entry.is_dir():
                self._folders_of.setdefault(split, []).append(entry.name)
        inner = {path: path.relative_to(root) for path in paths}
        self._classes = {_as_number(composed(path.parts[0])) for path in inner.values() if len(path.parts) == 2}  # CLASS/*.png
        short = ((name, path) for path in paths for name in {str(inner[path].with_suffix("")), path.name, path.stem})
        self._by_name = _index(short) | _index((str(inner[path]), path) for path in paths)

    @property
    def unused(self) -> int:
        """Number of pictures that have not been taken."""
        return self._count - len(self._taken)

    def may_be_named(self, name: str) -> bool:
        """Whether a name is that of a picture here, or of a file that would be one."""
        return is_picture(name) or self._relative(name) in self._by_name

    def are_classes(self, names: Sequence[str]) -> bool:
        """Whether all names are those of folders CLASS/, as they stand or as numbers: "007" is 7.

        A name for each picture means the pictures, even where each lies in a folder of its own name.
        """
        return len(names) < self._count and all(_as_number(composed(name)) in self._classes for name in names)

    def split_of(self, path: Path) -> str | None:
        """The split that the folders of a picture name; None where they name none."""
        return split_of_folders(path.relative_to(self._root))

    def missing(self, table: Path, line: int, name: str) -> str:
        """The message where a line of a table names a picture that is not here."""
        expected = f"expected a picture below {self._root}, with or without {', '.join(SUFFIXES[:SHOWN])} and so on"
        return f"{table}, line {line}: there is no picture {name!a}; {expected}"

    def take(self, table: Path, line: int, name: str, split: str | None) -> Path:
        """The picture that a line of a table names; a line of a split means the one in the folder of that split.

        Raises:
          UserError: there is no such picture, there are several, or it has been taken.
        """
        where = f"{table}, line {line}"
        plain = self._relative(name)
        in_split = (f"{folder}/{plain}" for folder in self._folders_of.get(split or "", []))
        plain = next((each for each in in_split if each in self._by_name), plain)
        if plain not in self._by_name:
            raise UserError(self.missing(table, line, name))
        path = self._by_name[plain]
        if path is None:
            raise UserError(f"{where}: there are several pictures {name!a}; write their folder before their name")
        if path in self._taken:
            raise UserError(f"{where}: {name!a} is named a second time, after {self._taken[path]}")
        self._taken[path] = where
        return path

    def _relative(self, name: str) -> str:
        """A name as those of the pictures are spelt: relative to the folder, with slashes, composed."""
        name = composed(name)
        plain = name if name in self._by_name else name.replace("\\", "/").removeprefix("./")
        for above in self._above:
            plain = plain.removeprefix(above)
        return plain


def _index(names: Iterable[tuple[str, Path]]) -> dict[str, Path | None]:
    """The pictures by name; None where several have the name."""
    index: dict[str, Path | None] = {}
    for name, path in names:
        index[composed(name)] = None if composed(name) in index else path
    return index


def _as_number(name: str) -> str:
    """A number without the zeros before it; any other name as it is."""
    return (name.lstrip("0") or "0") if name.isdecimal() else name
