"""Stored verdicts on the patches of bags, and the slides whose label or quality is in doubt."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from hardmil.bags.bag import Bag
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.mining.verdict_store import (
    FILE_NAME,
    JudgedPatch,
    SlideRemark,
    StoredVerdict,
    VerdictStore,
)
from hardmil.mining.verdicts import ARTEFACT, LESION, VALUES, doubting_values, verdict_values
from hardmil.words import count, some_of

LESION_IN_NEGATIVE = "lesion in a negative slide"

# The axis has no name, because bags differ in size.
Values = Mapping[str, Float[np.ndarray, " _"]]


@dataclass(frozen=True)
class Review:
    """The standing verdicts and remarks of a study."""

    verdicts: Sequence[StoredVerdict] = ()
    remarks: Sequence[SlideRemark] = ()


def read_review(folder: Path) -> Review:
    """The review in the folder of a study; empty where nothing was judged yet.

    Raises:
        StoreError: If the file cannot be read.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return Review()
    with VerdictStore(path) as store:
        return Review(store.standing(), store.standing_remarks())


@dataclass(frozen=True, eq=False)
class MatchedVerdicts:
    """Verdicts on the instances of bags, and what became of the others.

    `said` is what was said of each instance, by slide, as in `Reviewer`; NaN: nothing, unsure, or several
    things. `used` is the same for training: what the label of the slide rules out, such as a lesion in a
    negative slide, is left out. Of the matched patches, `n_moved` were cut in another place than the judged
    square, and reviewers disagree on `n_disagreed`. `unmatched` verdicts meet no patch; those on slides
    without a bag are not among them. `unknown` are named in verdicts, and are not classes of the study.
    """

    said: Values
    used: Values
    n_moved: int
    n_disagreed: int
    n_unsure: int
    unmatched: Sequence[StoredVerdict]
    unknown: Sequence[str] = ()
    task: TaskConfig = TWO_CLASSES

    @property
    def n_of(self) -> dict[str, int]:
        """How many instances of each kind are used; a lesion of any class is a lesion."""
        used = self._all_used
        normal, artefact = (int(np.sum(used == VALUES[kind])) for kind in ("normal", "artefact"))
        return {"lesion": int(np.sum(used >= 1)), "normal": normal, "artefact": artefact}

    @property
    def n_of_class(self) -> dict[str, int]:
        """With more than two classes, how many instances of each but the negative one are used."""
        used, negative = self._all_used, self.task.negative_class
        names = enumerate(self.task.names)
        return {name: int(np.sum(used == 1 + label)) for label, name in names if label != negative}

    @property
    def _all_used(self) -> Float[np.ndarray, " instance"]:
        return np.concatenate([*self.used.values(), np.zeros(0, dtype=np.float32)])

    @property
    def notes(self) -> list[str]:
        """What a user should know about them."""
        n_of = self.n_of
        shown = self.n_of_class | {
            kind: n_of[kind] for kind in n_of if self.task.is_binary or kind != "lesion"
        }
        kinds = ", ".join(f"{n} {kind}" for kind, n in shown.items())
        lines = [f"review: verdicts on {count(sum(n_of.values()), 'patch')} used: {kinds}"]
        if self.n_moved:
            lines.append(
                f"review: {count(self.n_moved, 'patch')} cut in another place took the verdict of the judged "
                "square around the centre"
            )
        if self.n_unsure:
            lines.append(f"review: unsure on {count(self.n_unsure, 'patch')}: not used")
        if self.n_disagreed:
            lines.append(f"review: reviewers disagree on {count(self.n_disagreed, 'patch')}: not used")
        n_doubting = sum(int(np.sum(self.said[name] >= 1)) for name in self.said) - n_of["lesion"]
        if n_doubting:
            what = (
                LESION_IN_NEGATIVE if self.task.is_binary else "a class that the label of the slide rules out"
            )
            lines.append(f"review: {what} on {count(n_doubting, 'patch')}: not used, the labels are in doubt")
        if self.unknown:
            lines.append(
                f"review: verdicts name {some_of(self.unknown)}, not among the classes of the study: not used"
            )
        if self.unmatched:
            slides = list(dict.fromkeys(one.patch.slide_id for one in self.unmatched))
            lines.append(
                f"review: {count(len(self.unmatched), 'verdict')} on {some_of(slides)} meet no patch of "
                "today: not used; judge these slides again"
            )
        return lines


def match_verdicts(
    verdicts: Iterable[StoredVerdict], bags: Sequence[Bag], *, task: TaskConfig = TWO_CLASSES
) -> MatchedVerdicts:
    """The verdicts on the instances of these bags.

    An instance takes the verdict on the square with its corner and size; without one, that on the square
    around its centre: the nearest, of equally near ones the newest. A reviewer who is unsure abstains; if the
    others disagree, there is no verdict.

    Args:
        verdicts: Standing verdicts.
        bags: Bags; those with unknown coordinates have no verdicts.
        task: The classes.
    """
    words = verdict_values(task)
    verdicts = list(verdicts)
    known = [one for one in verdicts if one.verdict.lower() in words]
    unknown = sorted({one.verdict for one in verdicts} - {one.verdict for one in known})
    by_slide: dict[str, list[StoredVerdict]] = {}
    for one in known:
        by_slide.setdefault(one.patch.slide_id, []).append(one)
    said: dict[str, Float[np.ndarray, " _"]] = {}
    used: dict[str, Float[np.ndarray, " _"]] = {}
    unmatched: list[StoredVerdict] = []
    n_of: Counter[str] = Counter()
    for bag in bags:
        here = _match(bag, by_slide.get(bag.slide_id, []), words=_words_on(bag.label, task=task))
        said[bag.slide_id] = here.values
        is_doubt = np.isin(here.values, doubting_values(bag.label, task=task))
        used[bag.slide_id] = np.where(is_doubt, np.float32(np.nan), here.values)
        unmatched += here.unmatched
        n_of.update(here.n_of)
    counts = (n_of["moved"], n_of["disagreed"], n_of["unsure"])
    return MatchedVerdicts(said, used, *counts, unmatched, unknown, task)


def _words_on(label: int, *, task: TaskConfig) -> dict[str, float]:
    """The value of each word on a slide of this label: lesion is its class, if it is not the negative one.

    On a slide of several classes, lesion says nothing: it may be any of them.
    """
    words = verdict_values(task)
    if not task.is_binary and label >= 0 and label != task.negative_label:
        only = task.only_class(label)
        of_lesion = np.nan if only is None else 1.0 + only
        words = {word: of_lesion if value == LESION else value for word, value in words.items()}
    return words


@dataclass(frozen=True, eq=False)
class _Match:
    values: Float[np.ndarray, " instance"]
    n_of: Mapping[str, int]
    unmatched: Sequence[StoredVerdict]


def _match(bag: Bag, verdicts: Sequence[StoredVerdict], *, words: Mapping[str, float]) -> _Match:
    """The verdicts on one bag; `words` are their values."""
    values = np.full(len(bag), np.nan, dtype=np.float32)
    if bag.size_level0_px == 0 or not verdicts:
        return _Match(values, {}, verdicts)
    votes: dict[int, list[float]] = {}
    moved: set[int] = set()
    met: set[int] = set()
    for reviewer in dict.fromkeys(one.reviewer for one in verdicts):
        own = [one for one in verdicts if one.reviewer == reviewer]
        nearest, is_exact, has_instance = _nearest_squares(bag, [one.patch for one in own])
        met.update(one.number for one, meets in zip(own, has_instance, strict=True) if meets)
        for instance in np.flatnonzero(nearest >= 0).tolist():
            votes.setdefault(instance, []).append(words[own[int(nearest[instance])].verdict.lower()])
            if not is_exact[instance]:
                moved.add(instance)
    n_of: Counter[str] = Counter(moved=len(moved))
    for instance, said in votes.items():
        kinds = {value for value in said if not np.isnan(value)}
        if len(kinds) == 1:
            values[instance] = kinds.pop()
        else:
            n_of["disagreed" if kinds else "unsure"] += 1
    return _Match(values, n_of, [one for one in verdicts if one.number not in met])


def _nearest_squares(
    bag: Bag, squares: Sequence[JudgedPatch]
) -> tuple[Int64[np.ndarray, " instance"], np.ndarray, list[bool]]:
    """The square of each instance (-1: none), whether it is the same square, and whether a square has any.

    Squares are in the order of their verdicts: of equally near ones, the last is taken.
    """
    size = bag.size_level0_px
    centres = bag.coords + size / 2
    nearest = np.full(len(bag), -1, dtype=np.int64)
    distance = np.full(len(bag), np.inf)
    is_exact = np.zeros(len(bag), dtype=bool)
    has_instance: list[bool] = []
    for number, square in enumerate(squares):
        corner = np.array([square.x, square.y])
        inside = np.flatnonzero(((centres >= corner) & (centres < corner + square.size)).all(axis=1))
        same = (bag.coords[inside] == corner).all(axis=1) & (square.size == size)
        away = np.abs(centres[inside] - corner - square.size / 2).max(axis=1)
        # The same square is nearer than any other one with the same centre.
        away = np.where(same, -1.0, away)
        better = away <= distance[inside]
        taken = inside[better]
        nearest[taken], distance[taken], is_exact[taken] = number, away[better], same[better]
        has_instance.append(len(inside) > 0)
    return nearest, is_exact, has_instance


@dataclass(frozen=True)
class SlideDoubt:
    """A slide whose label or quality is in doubt; `why` is a remark, or what was found on it."""

    slide_id: str
    why: str
    reviewers: tuple[str, ...]
    comment: str = ""

    @property
    def words(self) -> str:
        """The doubt as a line for the user."""
        comment = f": {self.comment}" if self.comment else ""
        return f"{self.slide_id}: {self.why} ({', '.join(self.reviewers)}){comment}"


def doubted_slides(
    review: Review, *, labels: Mapping[str, int], task: TaskConfig = TWO_CLASSES
) -> list[SlideDoubt]:
    """The slides in doubt by remarks, then by what was found in them: a lesion in negative slides.

    With more than two classes, also a class that the label rules out.

    Args:
        review: Standing verdicts and remarks.
        labels: The label of each slide.
        task: The classes.
    """
    remarked: dict[tuple[str, str], list[SlideRemark]] = {}
    for one in review.remarks:
        remarked.setdefault((one.slide_id, one.remark), []).append(one)
    found = [
        SlideDoubt(slide_id, why, _names(some), "; ".join(one.comment for one in some if one.comment))
        for (slide_id, why), some in remarked.items()
    ]
    contradicting: dict[tuple[str, str], list[StoredVerdict]] = {}
    for one in review.verdicts:
        label = labels.get(one.patch.slide_id)
        if label is not None and puts_in_doubt(one.verdict, label=label, task=task):
            why = _found_against(one.verdict, label=label, task=task)
            contradicting.setdefault((one.patch.slide_id, why), []).append(one)
    return found + [
        SlideDoubt(slide_id, why, _names(some), count(len(some), "patch"))
        for (slide_id, why), some in contradicting.items()
    ]


def _found_against(verdict: str, *, label: int, task: TaskConfig) -> str:
    if task.is_binary:
        return LESION_IN_NEGATIVE
    return f"{verdict} in a slide {'labelled' if task.multi_label else 'of'} {task.label_text(label)}"


def puts_in_doubt(verdict: str, *, label: int, task: TaskConfig) -> bool:
    """Whether a verdict finds on a slide of this label what the label rules out."""
    return label >= 0 and verdict_values(task).get(verdict.lower()) in doubting_values(label, task=task)


def _names(some: Iterable[StoredVerdict | SlideRemark]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.reviewer for one in some))


def no_hard_negatives(matched: MatchedVerdicts, bags: Iterable[Bag]) -> dict[tuple[str, int, int], str]:
    """The patches, (slide, x, y), that are artefacts, or hold a lesion that the slide's label rules out.

    They are not hard negatives; the value is which of the two.
    """
    found: dict[tuple[str, int, int], str] = {}
    for bag in bags:
        doubting = doubting_values(bag.label, task=matched.task)
        if bag.label < 0 or not doubting:
            continue
        for kind, values in (("artefact", [ARTEFACT]), ("lesion", doubting)):
            places = bag.coords[np.isin(matched.said[bag.slide_id], values)].tolist()
            found |= {(bag.slide_id, x, y): kind for x, y in places}
    return found
