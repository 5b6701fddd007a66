"""Programs that are compiled before they are needed."""

import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

from cifar_flax.runtime import background

K = TypeVar("K", bound=Hashable)
Program = TypeVar("Program")


class Programs(Generic[K, Program]):
    """Compiled programs by key; asking for one waits until it is compiled.

    Attributes:
      waited: seconds for which callers have waited for programs.
    """

    def __init__(self, compile_program: Callable[[K], Program]) -> None:
        """`compile_program` maps a key to its program."""
        self._compile = compile_program
        self._programs: dict[K, Future[Program]] = {}
        self.waited = 0.0

    def compile_ahead(self, keys: Iterable[K]) -> None:
        """Starts compiling the programs of `keys` in the background, in their order; each is compiled once."""
        for key in keys:
            if key not in self._programs:
                self._programs[key] = background.submit(partial(self._compile, key))

    def get(self, key: K, check: Callable[[], None] = lambda: None) -> Program:
        """The program of `key`; raises what its compilation raised, or `check`, which is called while it is waited for."""
        self.compile_ahead([key])
        begin = time.monotonic()
        try:
            return background.wait(self._programs[key], check)
        finally:
            self.waited += time.monotonic() - begin
