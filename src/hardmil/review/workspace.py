"""All that a review shows and stores: held-out slides, the queue, the verdicts, what they say."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property, lru_cache

from hardmil.mining.verdict_store import FILE_NAME, JudgedPatch, StoredVerdict, VerdictStore
from hardmil.preprocessing.study_folder import Study
from hardmil.review.agreement import Agreement, agreements
from hardmil.review.answers import Answer, answers_of, check_answers, words_of
from hardmil.review.cases import ReviewCase, review_cases
from hardmil.review.held_out_slides import (
    MAIN_RUN,
    HeldOut,
    ReviewSlide,
    SlidePatches,
    read_held_out,
    read_patches,
)
from hardmil.review.queue import NO_CLUSTER, QueueItem, make_queue
from hardmil.review.rounds import Round, read_rounds

CACHED_SLIDES = 8


@dataclass(frozen=True)
class Counts:
    """How far a reviewer is.

    `judged` patches have a verdict of this reviewer, `today` of them since midnight; `left` patches of the
    queue have none. `seconds_per_verdict` is the median; None before the first verdict on the page.
    """

    judged: int
    left: int
    today: int
    seconds_per_verdict: float | None


@dataclass(frozen=True)
class ProgressRow:
    """How many standing verdicts of a kind a reviewer gave on a day, local time."""

    reviewer: str
    day: str
    source: str
    verdict: str
    n: int


@dataclass(frozen=True)
class Progress:
    """Who judged what and when, and the effect of the verdicts."""

    rows: Sequence[ProgressRow]
    rounds: Sequence[Round]


@dataclass(frozen=True, eq=False)
class Workspace:
    """A review of the held-out slides of an evaluation; slides and clusters have numbers.

    Close it, or use it in a `with` statement.
    """

    study: Study
    store: VerdictStore
    held_out: HeldOut
    queue: Sequence[QueueItem]

    @property
    def run(self) -> str:
        """Name of the evaluation."""
        return self.held_out.run

    @property
    def arm(self) -> str:
        """The arm whose predictions are reviewed."""
        return self.held_out.arm

    @property
    def slides(self) -> Sequence[ReviewSlide]:
        """The held-out slides, in the order of the study's table."""
        return self.held_out.slides

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The verdicts that can be given."""
        return answers_of(self.held_out.task)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the verdicts, in the order of tables."""
        return words_of(self.held_out.task)

    def patches(self, number: int, *, branch: int = 0) -> SlidePatches:
        """The scores of the patches of a slide by a branch.

        Raises:
            FeatureFileError: If they cannot be read.
        """
        return _cached_patches(self.slides[number], self.held_out.is_relative)[branch]

    def branch_in_question(self, number: int, instance: int | None = None) -> int:
        """The branch that a patch is in the queue for; of other patches, that of the predicted class."""
        found = (one.branch for one in self.queue if (one.slide, one.instance) == (number, instance))
        return next(found, self.held_out.shown_branch(self.slides[number]))

    def queue_of(self, branch: int | None) -> Sequence[QueueItem]:
        """The part of the queue with the class of a branch in question, and its share of random patches."""
        return self.queue if branch is None else [one for one in self.queue if one.branch == branch]

    def patch_of(self, item: QueueItem) -> JudgedPatch:
        """The patch of an item of the queue, as the store names it."""
        return JudgedPatch(self.slides[item.slide].slide_id, item.x, item.y, item.size)

    def cluster(self, number: int) -> Sequence[QueueItem]:
        """The items of a cluster in the order of the queue; none if there is no such cluster."""
        return self._clusters.get(number, ())

    def judged_by(self, reviewer: str) -> dict[JudgedPatch, StoredVerdict]:
        """The standing verdict of a reviewer on each patch.

        Raises:
            StoreError: If the store cannot be read.
        """
        return {one.patch: one for one in self.store.standing() if one.reviewer == reviewer}

    def counts(self, reviewer: str) -> Counts:
        """How far a reviewer is.

        Raises:
            StoreError: If the store cannot be read.
        """
        judged = self.judged_by(reviewer)
        today = date.today().isoformat()
        seconds = [one.seconds for one in judged.values() if one.seconds is not None]
        return Counts(
            judged=len(judged),
            left=sum(patch not in judged for patch in self._queue_patches),
            today=sum(_local_day(one.at) == today for one in judged.values()),
            seconds_per_verdict=statistics.median(seconds) if seconds else None,
        )

    def cases(self, *, branch: int | None = None) -> list[ReviewCase]:
        """The cases with an error, a remark or a doubted label; largest error first.

        Of a branch, only the slides that were wrongly called so.

        Raises:
            StoreError: If the store cannot be read.
        """
        return review_cases(
            self.held_out,
            verdicts=self.store.standing(),
            remarks=self.store.standing_remarks(),
            branch=branch,
        )

    def agreements(self) -> list[Agreement]:
        """The agreement of each two reviewers that judged a patch twice, most patches first.

        Raises:
            StoreError: If the store cannot be read.
        """
        cases = {slide.slide_id: slide.case_id for slide in self.slides}
        seed = self.study.config.seed
        return agreements(self.store.standing(), cases=cases, seed=seed, words=self.words)

    def agreement(self) -> Agreement | None:
        """The agreement of the two reviewers with the most doubly judged patches; None if there are none.

        Raises:
            StoreError: If the store cannot be read.
        """
        return next(iter(self.agreements()), None)

    def progress(self) -> Progress:
        """Who judged what and when, and the effect of the verdicts.

        Raises:
            StoreError: If the store cannot be read.
            TableError: If the table of the rounds cannot be read.
        """
        n_of = Counter(
            (one.reviewer, _local_day(one.at), one.source, one.verdict) for one in self.store.standing()
        )
        rows = [ProgressRow(*key, n) for key, n in sorted(n_of.items())]
        return Progress(rows, read_rounds(self.study))

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def __enter__(self) -> "Workspace":
        """The workspace."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    @cached_property
    def _clusters(self) -> dict[int, list[QueueItem]]:
        found: dict[int, list[QueueItem]] = {}
        for item in self.queue:
            if item.cluster != NO_CLUSTER:
                found.setdefault(item.cluster, []).append(item)
        return found

    @cached_property
    def _queue_patches(self) -> list[JudgedPatch]:
        return [self.patch_of(item) for item in self.queue]


def open_workspace(study: Study, *, run: str = MAIN_RUN) -> Workspace:
    """The review of the slides that an evaluation held out, with the verdicts in `STUDY/review.sqlite`.

    Args:
        study: The study.
        run: Name of the evaluation: its folder in `runs/`.

    Raises:
        ConfigError: If there is no such evaluation, or it has no slide of the study.
        FeatureFileError: If the scores of its patches cannot be read.
        StoreError: If the verdicts cannot be read or written.
    """
    check_answers(study)
    held_out = read_held_out(study, run=run)
    queue = make_queue(study, held_out)
    return Workspace(study, VerdictStore(study.folder / FILE_NAME), held_out, queue)


@lru_cache(maxsize=CACHED_SLIDES)
def _cached_patches(slide: ReviewSlide, is_relative: bool) -> Sequence[SlidePatches]:
    return read_patches(slide, is_relative=is_relative)


def _local_day(at: str) -> str:
    return datetime.fromisoformat(at).astimezone().date().isoformat()
