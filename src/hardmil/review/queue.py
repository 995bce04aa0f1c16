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
from hardmil.review.held_out_slides import HeldOut, ReviewSlide, SlidePatches, each_patches

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
_Cluster = tuple[int, int | str]
"""A branch, and one of its clusters."""
TURNS: tuple[Reason, ...] = (FALSE_ALARM, UNCERTAIN, FALSE_ALARM, CONTRADICTING)
"""The reasons in turn."""


@dataclass(frozen=True)
class QueueItem:
    """A patch to judge.

    `slide` is the number of its slide in the workspace, `instance` its number on the slide; x, y and size are
    level-0 px. Patches of one `cluster` are alike; -1: it belongs to none. With more than two classes,
    `branch` is that of the class in question, whose attention, logit and contribution these are; of random
    patches, each in turn.
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
    branch: int = 0


def make_queue(study: Study, held_out: HeldOut) -> list[QueueItem]:
    """The patches to judge, most worthwhile first; the same for the same evaluation and seed.

    Three reasons take turns: hard instances of negative slides that were called positive, the strongest
    contributions first; patches of positive slides whose instance logit is nearest to 0, those with more
    attention than the mean first; and those with much attention and a negative logit, or with little
    attention and a high logit. Within a reason, the cluster and the case that were used least come first.
    Patches of slides without coordinates are left out. With more than two classes, a slide is negative for
    each class that it cannot hold and positive for its own, and clusters are those of one class. A slide of
    several classes is positive for each of them, which share its doubtful patches.

    Args:
        study: The study: its bags, for the clusters, and its seed.
        held_out: Slides of its evaluation.

    Raises:
        FeatureFileError: If the scores of the patches cannot be read.
    """
    slides, seed, task = held_out.slides, study.config.seed, held_out.task
    drawn = {place: turn % task.n_branches for turn, place in enumerate(_draw(slides, seed=seed))}
    alarms = [_alarm_slides(slides, branch=branch) for branch in range(task.n_branches)]
    controls: dict[tuple[int, int], QueueItem] = {}
    found: list[list[QueueItem]] = [[] for _ in slides]
    features: dict[int, np.ndarray] = {}
    rows = {row.slide_id: row for row in study.slide_table.rows}
    for number, patches in each_patches(slides, is_relative=held_out.is_relative):
        slide = slides[number]
        if slide.size_level0 == 0:
            continue
        for (place, instance), branch in drawn.items():
            if place == number:
                item = _item(number, instance, slide, patches, reason=RANDOM, branch=branch)
                controls[place, instance] = item
        alarmed = [branch for branch in range(task.n_branches) if number in alarms[branch]]
        found[number] = _candidates(
            number, held_out, patches, alarmed=alarmed, n_sigma=study.config.mining.n_sigma
        )
        some = [one.instance for one in found[number]]
        vectors = _features(study, rows[slide.slide_id], some=some, patches=patches[0])
        if vectors is not None:
            features[number] = vectors
    clustered = _with_clusters(found, features, n_branches=task.n_branches, seed=seed)
    n_random = round(sum(map(len, found)) * RANDOM_SHARE / (1 - RANDOM_SHARE))
    control = [controls[place] for place in list(drawn)[:n_random]]
    # A patch that was also drawn at random is shown as one of these, or the control would be biased.
    taken = {(one.slide, one.instance) for one in control}
    candidates = [[one for one in some if (one.slide, one.instance) not in taken] for some in clustered]
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


def _alarm_slides(slides: Sequence[ReviewSlide], *, branch: int) -> set[int]:
    """The numbers of the negative slides that were called positive, and of the nearest to it if few."""
    calls = ((number, slide.calls[branch]) for number, slide in enumerate(slides))
    negative = [(not one.is_called, -one.margin, number) for number, one in calls if not one.is_yes]
    wrong = sum(1 for is_right, _, _ in negative if not is_right)
    return {number for _, _, number in sorted(negative)[: max(wrong, LEAST_ALARMS)]}


def _candidates(
    number: int,
    held_out: HeldOut,
    patches: Sequence[SlidePatches],
    *,
    alarmed: Sequence[int],
    n_sigma: float,
) -> list[QueueItem]:
    """The patches of a slide that are worth a verdict, once each: of branches it alarmed, then of its own."""
    slide = held_out.slides[number]
    own = held_out.task.own_branches(held_out.label(slide))
    picked: dict[int, tuple[Reason, int]] = {}
    for branch in sorted(alarmed, key=lambda one: -slide.calls[one].margin):
        for instance, reason in _false_alarms(patches[branch], n_sigma=n_sigma).items():
            picked.setdefault(instance, (reason, branch))
    for branch in own:
        for instance, reason in _doubtful(patches[branch], n=max(1, PER_SLIDE // 2 // len(own))).items():
            picked.setdefault(instance, (reason, branch))
    return [
        _item(number, instance, slide, patches, reason=reason, branch=branch)
        for instance, (reason, branch) in picked.items()
    ]


def _with_clusters(
    found: Sequence[Sequence[QueueItem]],
    features: Mapping[int, Float[np.ndarray, "_ _"]],
    *,
    n_branches: int,
    seed: int,
) -> list[list[QueueItem]]:
    """The candidates of each slide with their clusters; those of another branch are other ones."""
    clustered = [list(some) for some in found]
    first = 0
    for branch in range(n_branches):
        places = [np.flatnonzero([one.branch == branch for one in some]) for some in found]
        clusters = cluster_candidates(
            {
                number: of_slide[places[number]]
                for number, of_slide in features.items()
                if len(places[number])
            },
            sizes=[len(here) for here in places],
            seed=seed,
        )
        for some, here, of_slide in zip(clustered, places, clusters, strict=True):
            for place, cluster in zip(here.tolist(), of_slide.tolist(), strict=True):
                if cluster != NO_CLUSTER:
                    some[place] = replace(some[place], cluster=first + cluster)
        first = 1 + max((one.cluster for some in clustered for one in some), default=NO_CLUSTER)
    return clustered


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


def _doubtful(patches: SlidePatches, *, n: int) -> Mapping[int, Reason]:
    """The uncertain and the self-contradicting patches of a positive slide, n of each, by worth."""
    if not _has_logits(patches):
        return {}
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


def _item(
    number: int,
    instance: int,
    slide: ReviewSlide,
    patches: Sequence[SlidePatches],
    *,
    reason: Reason,
    branch: int,
) -> QueueItem:
    of_branch = patches[branch]
    x, y = of_branch.coords[instance].tolist()
    values = (of_branch.attention, of_branch.logit, of_branch.contribution)
    attention, logit, contribution = (float(one[instance]) for one in values)
    return QueueItem(
        *(number, instance, x, y, slide.size_level0, reason, NO_CLUSTER),
        *(attention, logit, contribution, branch),
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

    With more than two classes, the classes in question take turns within a reason. Patches without a cluster
    count as a cluster of their slide.
    """
    waiting: dict[Reason, dict[_Cluster, dict[str, list[QueueItem]]]] = {}
    # Reversed, because the best is taken from the end.
    for number in _worst_first(slides):
        for item in reversed(candidates[number]):
            cluster = item.cluster if item.cluster != NO_CLUSTER else f"slide {item.slide}"
            of_reason = waiting.setdefault(item.reason, {}).setdefault((item.branch, cluster), {})
            of_reason.setdefault(slides[number].case_id, []).append(item)
    used: Counter[object] = Counter()
    of_class: dict[Reason, Counter[int]] = {reason: Counter() for reason in TURNS}
    found: list[QueueItem] = []
    for reason in cycle(TURNS):
        if not waiting:
            return found
        if reason in waiting:
            found.append(_take(waiting[reason], used=used, of_class=of_class[reason]))
            if not waiting[reason]:
                del waiting[reason]
    return found


def _worst_first(slides: Sequence[ReviewSlide]) -> list[int]:
    """Slides by how certain their score is, the most surprising one last."""
    return sorted(range(len(slides)), key=lambda number: slides[number].surprise)


def _take(
    clusters: dict[_Cluster, dict[str, list[QueueItem]]], *, used: Counter[object], of_class: Counter[int]
) -> QueueItem:
    """Remove the next item: of the class, the cluster, and in it the case used least."""
    cluster = min(clusters, key=lambda one: (of_class[one[0]], used["cluster", one]))
    of_class[cluster[0]] += 1
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
