"""What is made once for all sessions, and kept while there is room."""

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

from cachetools import LRUCache

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by key; the least recently used go first. They belong to all: change none in place.

    room: the sum of sizes that is kept; size: of a value, 1 each unless given."""

    def __init__(self, room: int, size: Callable[[T], int] = lambda value: 1) -> None:
        self._values: LRUCache[Hashable, T] = LRUCache(room, size)
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of the key, made now if it is not there; None is made anew each time.

        Two who ask at once may both make it: holding up the others would take longer."""
        with self._lock, suppress(KeyError):
            return self._values[key]
        value = make()
        if value is not None:
            with self._lock, suppress(ValueError):  # larger than all the room there is
                self._values[key] = value
        return value
