"""Embeddings of many slides in full batches: one thread reads, the other encodes.

A reader thread reads the patches of one slide after the other, in the order of the file. The main thread
fills the batches of the encoder with patches of any slide, and writes each vector to the file of its slide.
Memory is that of a few blocks of pixels and one batch, whatever the size and number of slides.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hardmil.bags.bag_file import write_bag_in_parts
from hardmil.bags.slide_table import SlideRow
from hardmil.config.study import InstanceConfig
from hardmil.encoders.checked import as_stored, constant_error
from hardmil.encoders.encoder import PatchEncoder
from hardmil.errors import BagError, BusyError
from hardmil.files.locks import locked
from hardmil.jobs.failures import Failure
from hardmil.jobs.progress import progress
from hardmil.jobs.run import Done, JobResults, attempt, read_ahead
from hardmil.preprocessing.fingerprints import finished_instances
from hardmil.preprocessing.instances import READ_THREADS, PatchedSlide, start_patches
from hardmil.preprocessing.patch_coords import open_slide_of_row
from hardmil.slides.color import equalise_block
from hardmil.slides.reading import read_blocks

AHEAD = 3
"""Blocks of pixels read ahead; about 13 MB each, for any slide."""


@dataclass(frozen=True)
class Files:
    """The files for patch coordinates and embeddings of a slide."""

    coords: Path
    embeddings: Path


@dataclass(frozen=True, eq=False)
class Pixels:
    """Some patches of a slide, equalised, with their indices in ascending order."""

    members: np.ndarray
    patches: np.ndarray


SlideOutcome = Done[int | None] | Failure
Event = PatchedSlide | Pixels | SlideOutcome


def encode_slides(
    rows: Sequence[SlideRow],
    *,
    config: InstanceConfig,
    encoder: PatchEncoder,
    files: Callable[[SlideRow], Files],
    label: str = "encoding",
    limit_s: float | None = None,
    quiet: bool = False,
) -> JobResults[int | None]:
    """Write the embeddings of every slide; the number of patches by slide_id, in the order of `rows`.

    The number is None where another run works on the slide. A slide is skipped if its file was made from the
    same slide with the same settings and encoder. A slide that fails, or takes longer than `limit_s` to open
    or to read a block, is among the failures; the others go on, also those in the same batch.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    done: dict[str, int | None] = {}
    failures: list[Failure] = []
    with progress(label, total=len(rows), quiet=quiet) as step:
        for name, outcome in _outcomes(rows, config=config, encoder=encoder, files=files, limit_s=limit_s):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                done[name] = outcome.result
            step()
    order = [row.slide_id for row in rows if row.slide_id in done]
    return JobResults({name: done[name] for name in order}, failures)


def _outcomes(
    rows: Sequence[SlideRow],
    *,
    config: InstanceConfig,
    encoder: PatchEncoder,
    files: Callable[[SlideRow], Files],
    limit_s: float | None,
) -> Iterator[tuple[str, SlideOutcome]]:
    """The outcome of each slide, as soon as it is known."""
    given_up: set[str] = set()
    slides: dict[str, _Slide] = {}
    waiting: deque[_Part] = deque()

    def settle(name: str, outcome: SlideOutcome) -> tuple[str, SlideOutcome]:
        slide = slides.pop(name, None)
        if slide is not None and isinstance(outcome, Failure):
            slide.discard()
            given_up.add(name)
            kept = [part for part in waiting if part.slide is not slide]
            waiting.clear()
            waiting.extend(kept)
        return name, outcome

    events = _events(rows, config=config, encoder=encoder, files=files, given_up=given_up, limit_s=limit_s)
    try:
        for name, event in read_ahead(events, depth=AHEAD):
            if isinstance(event, Done | Failure):
                yield settle(name, event)
            elif isinstance(event, PatchedSlide):
                begun = _Slide.begin(event, path=files(event.row).embeddings)
                if begun is None:
                    given_up.add(name)
                    yield name, Done(None)
                    continue
                slides[name] = begun
                if len(event.grid) == 0:
                    yield settle(name, attempt(lambda slide: slide.finish(encoder), slides[name], name=name))
            elif name in slides:
                waiting.append(_Part(slides[name], event))
            while sum(map(len, waiting)) >= encoder.batch_size:
                for settled in _encode(_take(waiting, encoder.batch_size), encoder=encoder):
                    yield settle(*settled)
        while waiting:
            for settled in _encode(_take(waiting, encoder.batch_size), encoder=encoder):
                yield settle(*settled)
    finally:
        for slide in slides.values():
            slide.discard()


def _events(
    rows: Sequence[SlideRow],
    *,
    config: InstanceConfig,
    encoder: PatchEncoder,
    files: Callable[[SlideRow], Files],
    given_up: set[str],
    limit_s: float | None,
) -> Iterator[tuple[str, Event]]:
    """For each slide: that it is finished; or its patch coordinates and then its patches; or a failure.

    The consumer adds slides to `given_up`; they are not read any further.
    """
    for row in rows:
        of_slide = _events_of_slide(row, config=config, encoder=encoder, files=files(row))
        while row.slide_id not in given_up:
            found = attempt(_next, of_slide, name=row.slide_id, limit_s=limit_s)
            event = found if isinstance(found, Failure) else found.result
            if event is not None:
                yield row.slide_id, event
            if event is None or isinstance(event, Failure):
                break
        # After a timeout, the generator still runs in an abandoned thread.
        with suppress(ValueError):
            of_slide.close()


def _next(events: Generator[Event, None, None]) -> Event | None:
    return next(events, None)


def _events_of_slide(
    row: SlideRow, *, config: InstanceConfig, encoder: PatchEncoder, files: Files
) -> Generator[Event, None, None]:
    n_done = finished_instances(files.embeddings, row=row, config=config, made_by=encoder.name)
    if n_done is not None:
        yield Done(n_done)
        return
    patched = start_patches(row, config=config, coords_path=files.coords, made_by=encoder.name)
    yield patched
    with open_slide_of_row(row) as slide:
        for members, patches in read_blocks(
            slide, patched.grid, icc=config.patches.icc, threads=READ_THREADS
        ):
            yield Pixels(members, equalise_block(patches, mode=config.patches.equalise))


class _Slide:
    """The file of a slide while it is written; it must be finished or discarded."""

    def __init__(
        self, patched: PatchedSlide, put: Callable[[np.ndarray, np.ndarray], None], closing: ExitStack
    ) -> None:
        self.name = patched.row.slide_id
        self.n_patches = self.n_left = len(patched.grid)
        self.is_open = True
        self._put, self._closing = put, closing
        self._first: tuple[np.ndarray, np.ndarray] | None = None
        self._patches_vary = self._vectors_vary = False

    @classmethod
    def begin(cls, patched: PatchedSlide, *, path: Path) -> "_Slide | None":
        """The open file; None where another run works on it."""
        closing = ExitStack()
        try:
            closing.enter_context(locked(path))
        except BusyError:
            return None
        put = closing.enter_context(
            write_bag_in_parts(
                path,
                patched.grid.coords,
                slide_id=patched.row.slide_id,
                size_level0_px=patched.grid.size_level0_px,
                attributes=patched.attributes,
            )
        )
        return cls(patched, put, closing)

    def write(self, pixels: Pixels, vectors: np.ndarray) -> None:
        """Write the vectors of some patches."""
        self._put(pixels.members, vectors)
        self.n_left -= len(vectors)
        first_patch, first_vector = self._first = self._first or (pixels.patches[:1], vectors[:1])
        self._patches_vary = self._patches_vary or bool((pixels.patches != first_patch).any())
        self._vectors_vary = self._vectors_vary or bool((vectors != first_vector).any())

    def finish(self, encoder: PatchEncoder) -> int:
        """Close the file, which gets its final name; the number of its patches.

        Raises:
            BagError: If all vectors are the same although the patches differ.
        """
        if self._patches_vary and not self._vectors_vary:
            raise constant_error(encoder, slide_id=self.name, n_patches=self.n_patches)
        self._closing.close()
        self.is_open = False
        return self.n_patches

    def discard(self) -> None:
        """Stop writing and remove the unfinished file."""
        self.is_open = False
        self._closing.__exit__(BagError, BagError(f"slide {self.name} was given up"), None)


@dataclass(frozen=True, eq=False)
class _Part:
    """Some patches of a slide that wait to be encoded."""

    slide: _Slide
    pixels: Pixels

    def __len__(self) -> int:
        return len(self.pixels.members)

    def split(self, n: int) -> tuple["_Part", "_Part"]:
        """The first n patches, and the rest."""
        members, patches = self.pixels.members, self.pixels.patches
        first, rest = Pixels(members[:n], patches[:n]), Pixels(members[n:], patches[n:])
        return replace(self, pixels=first), replace(self, pixels=rest)


def _take(waiting: deque[_Part], size: int) -> list[_Part]:
    """Parts from the front that fill a batch; the last one is split if needed."""
    batch: list[_Part] = []
    room = size
    while waiting and room:
        part = waiting.popleft()
        if len(part) > room:
            part, rest = part.split(room)
            waiting.appendleft(rest)
        batch.append(part)
        room -= len(part)
    return batch


def _encode(batch: Sequence[_Part], *, encoder: PatchEncoder) -> Iterator[tuple[str, SlideOutcome]]:
    """Encode a batch and write its vectors; the slides that are now complete, or failed."""
    name = batch[0].slide.name
    embedded = attempt(lambda parts: _embed(parts, encoder=encoder), batch, name=name)
    if isinstance(embedded, Failure):
        # One bad slide must not fail the others in its batch: encode each part again, alone.
        for part in batch if len(batch) > 1 else ():
            if part.slide.is_open:
                yield from _encode([part], encoder=encoder)
        if len(batch) == 1:
            yield name, embedded
        return
    ends = np.cumsum([len(part) for part in batch])
    for part, vectors in zip(batch, np.split(embedded.result, ends[:-1]), strict=True):
        if part.slide.is_open:
            yield from _put(part, vectors, encoder=encoder)


def _put(part: _Part, vectors: np.ndarray, *, encoder: PatchEncoder) -> Iterator[tuple[str, SlideOutcome]]:
    slide = part.slide
    written = attempt(lambda one: slide.write(one.pixels, vectors), part, name=slide.name)
    if isinstance(written, Failure):
        yield slide.name, written
    elif slide.n_left == 0:
        yield slide.name, attempt(lambda one: one.finish(encoder), slide, name=slide.name)


def _embed(batch: Sequence[_Part], *, encoder: PatchEncoder) -> np.ndarray:
    patches = [part.pixels.patches for part in batch]
    shown = np.concatenate(patches) if len(patches) > 1 else patches[0]
    return as_stored(encoder.embed(shown), len(shown), encoder=encoder, slide_id=batch[0].slide.name)
