"""Encoded pictures in memory, up to a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

MOST_BYTES = 128 << 20


class ByteCache:
    """Bytes by key; the ones that were not used for the longest time are dropped first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._content: OrderedDict[Hashable, bytes] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """Size of the content."""
        return self._n_bytes

    def get(self, key: Hashable, *, make: Callable[[], bytes]) -> bytes:
        """The bytes of a key, made if they are not there; no bytes are not kept."""
        with self._lock:
            found = self._content.get(key)
            if found is not None:
                self._content.move_to_end(key)
                return found
        made = make()
        with self._lock:
            if made and key not in self._content:
                self._content[key] = made
                self._n_bytes += len(made)
            while self._n_bytes > self._most_bytes:
                _, dropped = self._content.popitem(last=False)
                self._n_bytes -= len(dropped)
        return made
