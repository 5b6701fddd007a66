"""The words by which folders, files, columns and arrays say which split they are of."""

import re
from pathlib import PurePath

SPLIT_OF = {  # in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SPLITS = ("train", "validation", "test")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")  # of a name: train-00000-of-00002, trainLabels, CIFAR_TEST


def split_in_name(name: str) -> str | None:
    """The split that the last word for one in a name is of: "test" for my_train-test.arrow; None without such a word."""
    words = reversed(WORD.findall(name))
    return next((SPLIT_OF[word.lower()] for word in words if word.lower() in SPLIT_OF), None)


def split_of_folders(path: PurePath) -> str | None:
    """The split that the folders of a relative path name, the first that does; None where none does."""
    folders = (folder.lower() for folder in path.parts[:-1])
    return next((SPLIT_OF[folder] for folder in folders if folder in SPLIT_OF), None)
