"""The patches to judge, in the order of what a verdict is worth, spread over clusters and cases."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, zip_longest
from typing import Literal

import numpy as np
from jaxtyping import Float

from hardmil.bags.slide_table import SlideRow
from hardmil.mining.hard_instances import hard_instances
from hardmil.preprocessing.study_folder import Study
from hardmil.review.candidate_features import candidate_features, cluster_candidates
from hardmil.review.held_out_slides import FALSE_POSITIVE, HeldOut, ReviewSlide, SlidePatches, each_patches

Reason = Literal["false alarm", "uncertain", "contradicting", "random"]
FALSE_ALARM: Reason = "false alarm"
UNCERTAIN: Reason = "uncertain"
CONTRADICTING: Reason = "contradicting"
RANDOM: Reason = "random"
NO_CLUSTER = -1

QUEUE_SIZE = 2_000
"""Most patches of the queue, about four hours of work."""
PER_SLIDE = 16
"""Most candidates of a slide; of a positive one, half of each reason."""
LEAST_ALARMS = 20
"""At least so many negative slides, if there are as many: those with the highest scores join the errors."""
RANDOM_SHARE = 0.15
"""Share of patches drawn at random from all patches of all slides, as an unbiased control."""
BLOCK = 20
"""Each block of so many patches of the queue has its share of random ones, at random positions."""
TURNS: tuple[Reason, ...] = (FALSE_ALARM, UNCERTAIN, FALSE_ALARM, CONTRADICTING)
"""The reasons in turn."""


@dataclass(frozen=True)
class QueueItem:
    """A patch to judge.

    `slide` is the number of its slide in the workspace, `instance` its number on the slide; x, y and size are
    level-0 px. Patches of one `cluster` are alike; -1: it belongs to none.
    """

    slide: int
    instance: int
    x: int
    y: int
    size: int
    reason: Reason
    cluster: int
    attention: float
    logit: float
    contribution: float


def make_queue(study: Study, held_out: HeldOut) -> list[QueueItem]:
    """The patches to judge, most worthwhile first; the same for the same evaluation and seed.

    Three reasons take turns: hard instances of negative slides that were called positive, the strongest
    contributions first; patches of positive slides whose instance logit is nearest to 0, those with more
    attention than the mean first; and those with much attention and a negative logit, or with little
    attention and a high logit. Within a reason, the cluster and the case that were used least come first.
    Patches of slides without coordinates are left out.

    Args:
        study: The study: its bags, for the clusters, and its seed.
        held_out: Slides of its evaluation.

    Raises:
        FeatureFileError: If the scores of the patches cannot be read.
    """
    slides, seed = held_out.slides, study.config.seed
    drawn = _draw(slides, seed=seed)
    alarms = _alarm_slides(held_out)
    controls: dict[int, dict[int, QueueItem]] = {}
    found: list[list[QueueItem]] = [[] for _ in slides]
    features: dict[int, np.ndarray] = {}
    rows = {row.slide_id: row for row in study.slide_table.rows}
    for number, patches in each_patches(slides):
        slide = slides[number]
        if slide.size_level0 == 0:
            continue
        control = [instance for place, instance in drawn if place == number]
        controls[number] = {i: _item(number, i, slide, patches, RANDOM) for i in control}
        if number in alarms:
            picked = _false_alarms(patches, n_sigma=study.config.mining.n_sigma)
        else:
            picked = _doubtful(patches) if slide.label == held_out.positive else {}
        found[number] = [_item(number, i, slide, patches, reason) for i, reason in picked.items()]
        vectors = _features(study, rows[slide.slide_id], some=list(picked), patches=patches)
        if vectors is not None:
            features[number] = vectors
    clusters = cluster_candidates(features, sizes=[len(some) for some in found], seed=seed)
    n_random = round(sum(map(len, found)) * RANDOM_SHARE / (1 - RANDOM_SHARE))
    control = [controls[number][instance] for number, instance in drawn[:n_random]]
    # A patch that was also drawn at random is shown as one of these, or the control would be biased.
    taken = {(one.slide, one.instance) for one in control}
    candidates = [
        [
            replace(one, cluster=int(cluster))
            for one, cluster in zip(some, of_slide, strict=True)
            if (one.slide, one.instance) not in taken
        ]
        for some, of_slide in zip(found, clusters, strict=True)
    ]
    worthwhile = _spread(candidates, slides=slides)[: round(QUEUE_SIZE * (1 - RANDOM_SHARE))]
    return _mixed(worthwhile, control=control, seed=seed)


def _draw(slides: Sequence[ReviewSlide], *, seed: int) -> list[tuple[int, int]]:
    """(slide, instance) of patches drawn at random from all that can be shown, in the order of the draw."""
    counts = np.array([slide.n_patches if slide.size_level0 else 0 for slide in slides])
    total = int(counts.sum())
    rng = np.random.default_rng([seed, 1])
    drawn = rng.choice(total, size=min(round(QUEUE_SIZE * RANDOM_SHARE), total), replace=False)
    ends = np.cumsum(counts)
    numbers = np.searchsorted(ends, drawn, side="right")
    instances = drawn - (ends - counts)[numbers]
    return list(zip(numbers.tolist(), instances.tolist(), strict=True))


def _alarm_slides(held_out: HeldOut) -> set[int]:
    """The numbers of the negative slides that were called positive, and of the nearest to it if few."""
    negative = [
        (slide.error != FALSE_POSITIVE, slide.threshold - slide.bag_score, number)
        for number, slide in enumerate(held_out.slides)
        if slide.label == held_out.negative
    ]
    wrong = sum(1 for is_right, _, _ in negative if not is_right)
    return {number for _, _, number in sorted(negative)[: max(wrong, LEAST_ALARMS)]}


def _false_alarms(patches: SlidePatches, *, n_sigma: float) -> Mapping[int, Reason]:
    """The hard instances of a negative slide, the strongest contributions first.

    Where attention is flat, the highest instance logits.
    """
    worth = _worth(patches)
    hard = hard_instances(patches.attention, n_sigma=n_sigma)
    if len(hard) == 0:
        hard = np.arange(len(worth))
    best = hard[np.argsort(-worth[hard], kind="stable")][:PER_SLIDE]
    return dict.fromkeys(best.tolist(), FALSE_ALARM)


def _worth(patches: SlidePatches) -> Float[np.ndarray, " patch"]:
    """What a patch adds to the logit of its slide; attention times logit, or attention, if not known."""
    if not np.isnan(patches.contribution).any():
        return patches.contribution
    return patches.attention * patches.logit if _has_logits(patches) else patches.attention


def _has_logits(patches: SlidePatches) -> bool:
    return not np.isnan(patches.logit).any() and bool(patches.logit.any())


def _doubtful(patches: SlidePatches) -> Mapping[int, Reason]:
    """The uncertain and the self-contradicting patches of a positive slide, half of each, by worth."""
    if not _has_logits(patches):
        return {}
    n = PER_SLIDE // 2
    logit, attention = patches.logit, patches.attention
    attended = attention > attention.mean()
    by_attention, by_logit = (np.argsort(-one, kind="stable") for one in (attention, logit))
    both = zip_longest(
        by_attention[(attended & (logit < 0))[by_attention]].tolist(),
        by_logit[(~attended & (logit > 0))[by_logit]].tolist(),
    )
    contradicting = [i for pair in both for i in pair if i is not None][:n]
    # First those that matter for the slide: most patches without attention are plain background.
    by_doubt = np.lexsort((np.abs(logit), ~attended)).tolist()
    uncertain = [i for i in by_doubt[: 2 * n] if i not in contradicting][:n]
    found: Mapping[int, Reason] = dict.fromkeys(uncertain, UNCERTAIN)
    return {**found, **dict.fromkeys(contradicting, CONTRADICTING)}


def _item(number: int, instance: int, slide: ReviewSlide, patches: SlidePatches, reason: Reason) -> QueueItem:
    x, y = patches.coords[instance].tolist()
    values = (patches.attention, patches.logit, patches.contribution)
    attention, logit, contribution = (float(one[instance]) for one in values)
    return QueueItem(
        number, instance, x, y, slide.size_level0, reason, NO_CLUSTER, attention, logit, contribution
    )


def _features(
    study: Study, row: SlideRow, *, some: Sequence[int], patches: SlidePatches
) -> Float[np.ndarray, "patch dim"] | None:
    """The features of these patches of a slide, in their order; None if its bag cannot be used."""
    if not some:
        return None
    order = np.argsort(some)
    index = np.array(some)[order]
    found = candidate_features(study, row, index=index, corners=patches.coords[index])
    return None if found is None else found[np.argsort(order)]


def _spread(candidates: Sequence[Sequence[QueueItem]], *, slides: Sequence[ReviewSlide]) -> list[QueueItem]:
    """The candidates in turn: reason after reason, each time of the cluster and the case used least.

    Patches without a cluster count as a cluster of their slide.
    """
    waiting: dict[Reason, dict[object, dict[str, list[QueueItem]]]] = {}
    # Reversed, because the best is taken from the end.
    for number in _worst_first(slides):
        for item in reversed(candidates[number]):
            cluster = item.cluster if item.cluster != NO_CLUSTER else f"slide {item.slide}"
            of_reason = waiting.setdefault(item.reason, {}).setdefault(cluster, {})
            of_reason.setdefault(slides[number].case_id, []).append(item)
    used: Counter[object] = Counter()
    found: list[QueueItem] = []
    for reason in cycle(TURNS):
        if not waiting:
            return found
        if reason in waiting:
            found.append(_take(waiting[reason], used=used))
            if not waiting[reason]:
                del waiting[reason]
    return found


def _worst_first(slides: Sequence[ReviewSlide]) -> list[int]:
    """Slides by how certain their score is, the most surprising one last."""

    def surprise(number: int) -> float:
        slide = slides[number]
        margin = slide.bag_score - slide.threshold
        return abs(margin) if slide.error else -abs(margin)

    return sorted(range(len(slides)), key=surprise)


def _take(clusters: dict[object, dict[str, list[QueueItem]]], *, used: Counter[object]) -> QueueItem:
    """Remove the next item: of the cluster used least, and in it of the case used least."""
    cluster = min(clusters, key=lambda one: used["cluster", one])
    cases = clusters[cluster]
    case = min(cases, key=lambda one: used["case", one])
    used["cluster", cluster] += 1
    used["case", case] += 1
    item = cases[case].pop()
    if not cases[case]:
        del cases[case]
    if not cases:
        del clusters[cluster]
    return item


def _mixed(items: Sequence[QueueItem], *, control: Sequence[QueueItem], seed: int) -> list[QueueItem]:
    """The items with random patches among them: as many in each block, at random positions."""
    rng = np.random.default_rng([seed, 2])
    n_random = round(BLOCK * RANDOM_SHARE)
    worthwhile, random = deque(items), deque(control)
    mixed: list[QueueItem] = []
    while worthwhile:
        places = set(rng.choice(BLOCK, size=n_random, replace=False).tolist())
        for place in range(BLOCK):
            source = random if place in places and random else worthwhile
            if source:
                mixed.append(source.popleft())
    return mixed
