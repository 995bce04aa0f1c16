"""The slides that the server reads from: opened when they are needed, a few kept open."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from hardmil.errors import SlideError
from hardmil.slides.icc import to_srgb
from hardmil.slides.reader import open_slide
from hardmil.slides.slide import Slide

MOST_OPEN = 8
"""Slides kept open. A picture (PNG, JPEG) is in memory as a whole while it is open."""
MOST_READING = 4
"""Requests that read pixels at once; the others wait, so that memory is bounded."""

Pixels = UInt8[np.ndarray, "row column 3"]
Stamp = tuple[int, int]
"""Size and time of the last change of a file."""


@dataclass(eq=False)
class OpenSlide:
    """An open slide, and the conversion of its colours for a screen."""

    slide: Slide
    stamp: Stamp
    to_screen: Callable[[Pixels], Pixels]
    n_users: int = 0


class OpenSlides:
    """Slides by their number; at most `MOST_OPEN` stay open, the last used ones.

    A slide whose file was replaced is opened again.
    """

    def __init__(self, paths: Sequence[Path | None]) -> None:
        self._paths = paths
        self._open: OrderedDict[int, OpenSlide] = OrderedDict()
        self._lock = threading.Lock()
        self._reading = threading.BoundedSemaphore(MOST_READING)

    def stamp(self, number: int) -> Stamp:
        """Size and time of change of a slide's file.

        Raises:
            SlideError: If the study has no file of the slide, or it is not there any more.
        """
        path = self._path(number)
        try:
            status = path.stat()
        except OSError as error:
            reason = error.strerror or "cannot be reached"
            raise SlideError(
                f"{path}: the slide cannot be read any more ({reason}); expected the file that the study was "
                "made of; connect its disk or put it back, then load this page again"
            ) from error
        return status.st_size, status.st_mtime_ns

    @contextmanager
    def use(self, number: int) -> Iterator[OpenSlide]:
        """The slide, open during the block.

        Raises:
            SlideError: As `stamp`, and if the slide cannot be opened.
        """
        stamp = self.stamp(number)
        with self._reading:
            found = self._take(number, stamp=stamp)
            try:
                yield found
            finally:
                self._give_back(found)

    def close(self) -> None:
        """Close the slides that nobody reads from."""
        with self._lock:
            found = [number for number, one in self._open.items() if one.n_users == 0]
            closing = [self._open.pop(number) for number in found]
        for one in closing:
            one.slide.close()

    def _path(self, number: int) -> Path:
        path = self._paths[number]
        if path is None:
            raise SlideError(
                f"slide {number}: the table of slides has no path for it; expected a file to show; add the "
                "column path to the table, then start the review again"
            )
        return path

    def _take(self, number: int, *, stamp: Stamp) -> OpenSlide:
        with self._lock:
            found = self._open.get(number)
            if found is not None and found.stamp == stamp:
                self._open.move_to_end(number)
                found.n_users += 1
                return found
        # Opened without the lock: a slide on a slow disk must not hold up the others.
        slide = open_slide(self._path(number))
        opened = OpenSlide(slide, stamp, _conversion(slide), n_users=1)
        with self._lock:
            replaced = self._open.pop(number, None)
            self._open[number] = opened
            idle = [key for key, one in self._open.items() if one.n_users == 0]
            surplus = [self._open.pop(key) for key in idle[: max(0, len(self._open) - MOST_OPEN)]]
            if replaced is not None and replaced.n_users == 0:
                surplus.append(replaced)
        for one in surplus:
            one.slide.close()
        return opened

    def _give_back(self, one: OpenSlide) -> None:
        with self._lock:
            one.n_users -= 1
            is_replaced = all(kept is not one for kept in self._open.values())
        if is_replaced and one.n_users == 0:
            one.slide.close()


def _conversion(slide: Slide) -> Callable[[Pixels], Pixels]:
    """The conversion to sRGB; of a profile that cannot be applied, colours stay as they are."""
    try:
        return to_srgb(slide)
    except SlideError:
        return lambda pixels: pixels
