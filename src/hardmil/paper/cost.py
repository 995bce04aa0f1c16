"""What a run will cost: the patch visits of its trainings, and their time at a measured speed.

A patch visit is one patch in one epoch of one training. Scoring, a forward pass per model, is not counted.
"""

import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int

from hardmil.bags.bag import Bag
from hardmil.bags.folds import possible_inner_folds, repeated_folds
from hardmil.config.mining import MiningConfig
from hardmil.config.model import ResolvedModelConfig, training_config
from hardmil.config.section import fingerprint
from hardmil.device import Device
from hardmil.errors import TrainingError
from hardmil.evaluation.arms import Arm
from hardmil.evaluation.cohort import Cohort
from hardmil.evaluation.evaluation import Evaluation, missing_trials
from hardmil.evaluation.trial import Trial, candidate_trials, operating_folds
from hardmil.jobs.pool import Engine
from hardmil.mil.training import fit
from hardmil.mining.procedure import judge_seeds, member_seeds

SMALL_RUN = {"repeats": 1, "folds": 2, "epochs": 3}
MEASURE_S = 1.0
FIRST_BAGS = 4
"""With fewer steps, the time to build the network, or of one slow step, would count too much."""

TrainingVisits = tuple[Hashable, int]
"""What a training depends on, and its patch visits: equal trainings are run once."""


@dataclass(frozen=True, eq=False)
class Cost:
    """What is still to run. `visits` is an upper bound if `is_bound`: it depends on what is mined."""

    missing: Sequence[Trial]
    n_trials: int
    visits: int
    small_visits: int
    is_bound: bool


def cost_of(evaluation: Evaluation) -> Cost:
    """The cost of the trials that have no row yet, and that of a small run of the same arms."""
    missing, cohort = missing_trials(evaluation), evaluation.cohort
    return Cost(
        missing=missing,
        n_trials=len(evaluation.trials()),
        visits=training_visits(missing, cohort=cohort),
        small_visits=training_visits(_small_run(evaluation).trials(), cohort=cohort),
        is_bound=any(_depends_on_scores(trial.arm) for trial in missing),
    )


def _depends_on_scores(arm: Arm) -> bool:
    """Whether later trainings of an arm depend on what earlier ones score."""
    mining = arm.mining
    return mining.use != "none" or mining.self_judged.how != "none" or bool(arm.candidates)


def _small_run(evaluation: Evaluation) -> Evaluation:
    """The same arms with the folds, repeats and epochs of `SMALL_RUN`."""
    cohort = evaluation.cohort
    folds = repeated_folds(
        cohort.labels,
        cohort.cases,
        n_folds=SMALL_RUN["folds"],
        n_repeats=SMALL_RUN["repeats"],
        seed=evaluation.seed,
    )
    arms = [_with_epochs(arm, SMALL_RUN["epochs"]) for arm in evaluation.arms]
    return replace(evaluation, folds=folds, arms=arms, only_folds=None)


def _with_epochs(arm: Arm, epochs: int) -> Arm:
    candidates = tuple(_with_epochs(one, epochs) for one in arm.candidates)
    return replace(arm, model=_with_training(arm.model, epochs=epochs), candidates=candidates)


def _with_training(model: ResolvedModelConfig, **settings: object) -> ResolvedModelConfig:
    return model.model_copy(update={"training": model.training.model_copy(update=settings)})


def training_visits(trials: Sequence[Trial], *, cohort: Cohort) -> int:
    """Patch visits of all trainings of the trials; a training that several trials share counts once.

    An upper bound for arms that mine: every negative bag may be a false positive, in every round.
    """
    sizes = np.array([len(bag) for bag in cohort.bags])
    known = _Known(cohort.labels, tuple(cohort.cases), sizes)
    return _n_visits(one for trial in trials for one in _of_trial(trial, known))


@dataclass(frozen=True, eq=False)
class _Known:
    """Label, case and size of each bag of a cohort; inner folds are drawn once for all arms."""

    labels: Int[np.ndarray, " bag"]
    cases: tuple[str, ...]
    sizes: Int[np.ndarray, " bag"]
    drawn: dict[Hashable, list[np.ndarray]] = field(default_factory=dict)

    def inner_folds(self, inside: np.ndarray, *, n_folds: int, seed: int) -> list[np.ndarray]:
        """Positions of the training bags of each inner fold; none if they cannot be drawn."""
        key = (inside.tobytes(), n_folds, seed)
        if key not in self.drawn:
            labels, cases = self.labels[inside], [self.cases[i] for i in inside]
            folds = possible_inner_folds(labels, cases, n_folds=n_folds, seed=seed)
            self.drawn[key] = [inside[fold.train] for fold in folds]
        return self.drawn[key]

    def operating_folds(self, trial: Trial) -> list[np.ndarray]:
        """Positions of the training bags of each fold that the operating point is set on."""
        train = trial.fold.train
        key = ("operating", train.tobytes(), trial.operating, trial.seed)
        if key not in self.drawn:
            folds = operating_folds(trial, labels=self.labels[train], cases=[self.cases[i] for i in train])
            self.drawn[key] = [train[fold.train] for fold in folds]
        return self.drawn[key]


def _of_trial(trial: Trial, known: _Known) -> Iterator[TrainingVisits]:
    """The trainings of a trial: of the whole arm, on its training fold and on each operating fold.

    Of `auto`, every candidate is trained on the operating folds, and the one that is taken on the whole.
    """
    if trial.arm.fisher is not None:
        return
    candidates = list(candidate_trials(trial).values()) if trial.arm.auto else [trial]
    for one in candidates:
        yield from _held_out(one, known)
    yield from max((_whole(one, known) for one in candidates), key=_n_visits)


def _whole(trial: Trial, known: _Known) -> list[TrainingVisits]:
    """The trainings on the training fold."""
    seeds = member_seeds(trial.seed, config=trial.arm.model)
    return [one for seed in seeds for one in _of_arm(trial.arm, trial.fold.train, seed=seed, known=known)]


def _held_out(trial: Trial, known: _Known) -> Iterator[TrainingVisits]:
    """The trainings on each operating fold."""
    for seed in member_seeds(trial.seed, config=trial.arm.model):
        for number, inside in enumerate(known.operating_folds(trial)):
            yield from _of_arm(trial.arm, inside, seed=seed + 1 + number, known=known)


def _n_visits(trainings: Iterable[TrainingVisits]) -> int:
    """Their patch visits; a training that occurs twice counts once."""
    return sum(dict(trainings).values())


def _of_arm(arm: Arm, inside: np.ndarray, *, seed: int, known: _Known) -> Iterator[TrainingVisits]:
    """The trainings of `train_and_mine` on these bags, if every round mines."""
    mining, model = arm.mining, fingerprint(training_config(arm.model).hashed())
    epochs, limit = arm.model.training.epochs, arm.model.training.max_instances

    def training(bags: np.ndarray, seed: int, stage: Hashable, added: int = 0) -> TrainingVisits:
        visits = epochs * (int(np.minimum(known.sizes[bags], limit).sum()) + added)
        return (model, seed, bags.tobytes(), stage), visits

    stage: Hashable = None
    if arm.uses_verdicts:
        for one in judge_seeds(seed, mining=mining):
            yield training(inside, one, stage)
        # Which verdicts a budget buys depends on the base, and so on the bags it was trained on.
        choice = None if mining.verdict_budget is None else (mining.verdict_choice, seed, inside.tobytes())
        stage = ("verdicts", mining.verdict_budget, choice)
    inner = known.inner_folds(inside, n_folds=mining.inner_folds, seed=seed)
    judged = mining.self_judged
    for number in range(judged.rounds if judged.how != "none" else 0):
        if judged.how == "em":
            yield training(inside, seed, (fingerprint(judged.hashed()), stage, number))
        else:
            for k, bags in enumerate(inner):
                yield training(bags, seed + 1 + k, stage)
        stage = (fingerprint(judged.hashed()), mining.draw, stage, number + 1, seed, inside.tobytes())
    yield training(inside, seed, stage)
    if mining.use == "none":
        return
    of_arm = fingerprint(mining.hashed())
    for number in range(1, mining.rounds + 1):
        added = partial(_added, mining, negatives=inside[known.labels[inside] == 0], limit=limit, known=known)
        for k, bags in enumerate(inner if mining.source == "out-of-fold" else []):
            yield training(bags, seed + 1 + k, stage, added(bags, rounds=number - 1))
        stage = (of_arm, stage, number, seed, inside.tobytes())
        yield training(inside, seed, stage, added(inside, rounds=number))


def _added(
    mining: MiningConfig,
    bags: np.ndarray,
    *,
    rounds: int,
    negatives: np.ndarray,
    limit: int,
    known: _Known,
) -> int:
    """The most instances that mining adds to an epoch on these bags, after some rounds."""
    if rounds == 0:
        return 0
    sizes = np.minimum(known.sizes, limit)
    match mining.use:
        case "sb":
            return min(int(known.sizes[negatives].sum()), limit)
        case "mb" | "fmb":
            n_bags = mining.n_bags or len(negatives) * rounds
            return n_bags * int(sizes[bags].max())
        case "inject" if mining.inject_how == "append":
            is_into = {"positive": known.labels[bags] == 1, "negative": known.labels[bags] == 0}
            into = bags[is_into.get(mining.inject_into, slice(None))]
            return sum(max(1, round(mining.inject_share * int(size))) for size in sizes[into])
        case _:
            return 0


def training_speed(
    bags: Sequence[Bag],
    *,
    config: ResolvedModelConfig,
    device: Device,
    threads: int | None = None,
    at_least_s: float,
) -> float:
    """Patch visits per second of a training on these bags, measured for a second or two.

    Args:
        bags: The bags of the run; the measurement uses as many of them as it needs.
        config: Settings of model and training.
        device: Where to train.
        threads: Threads of torch during the measurement; as they are by default.
        at_least_s: Shortest time that is trusted.
    """
    before = torch.get_num_threads()
    # Selection by validation would split these few bags.
    config = _with_training(config, epochs=1, select="last")
    torch.set_num_threads(threads or before)
    try:
        fit(bags[:1], config=config, device=device)  # the first steps are slower
        n_bags, epochs = min(FIRST_BAGS, len(bags)), 1
        while True:
            chosen = [bags[i * len(bags) // n_bags] for i in range(n_bags)]
            started = time.perf_counter()
            fit(chosen, config=_with_training(config, epochs=epochs), device=device)
            seconds = time.perf_counter() - started
            if seconds >= at_least_s:
                break
            n_bags, epochs = min(2 * n_bags, len(bags)), epochs * (1 if n_bags < len(bags) else 2)
    finally:
        torch.set_num_threads(before)
    limit = config.training.max_instances
    return epochs * sum(min(len(bag), limit) for bag in chosen) / seconds


def cost_lines(evaluation: Evaluation, *, device: Device, engine: Engine) -> list[str]:
    """What the run will cost, in words, with a smaller one.

    Nothing if no training is left to do, or if it cannot be measured because its loss is not finite.
    """
    cost = cost_of(evaluation)
    if cost.visits == 0:
        return []
    model = next(trial.arm.model for trial in cost.missing if trial.arm.fisher is None)
    threads = None if engine.is_here else engine.threads
    try:
        speed = training_speed(
            evaluation.cohort.bags, config=model, device=device, threads=threads, at_least_s=MEASURE_S
        )
    except TrainingError:
        return []  # the trials will fail in the same way, and are reported one by one
    return in_words(cost, evaluation=evaluation, speed=speed, workers=engine.workers)


def in_words(cost: Cost, *, evaluation: Evaluation, speed: float, workers: int) -> list[str]:
    """The lines of `cost_lines`, for a speed in patch visits per second and worker."""
    n_folds = len(evaluation.only_folds or evaluation.folds[0])
    size = f"{len(evaluation.arms)} arms x {len(evaluation.folds)} repeats x {n_folds} folds"
    bound = "at most " if cost.is_bound else ""
    with_workers = f" with {workers} workers" if workers > 1 else ""
    lines = [
        f"{size}, {len(cost.missing)} of {cost.n_trials} trials to run: {bound}{_count(cost.visits)} patch "
        f"visits, about {duration(cost.visits / speed / workers)} at {speed:,.0f} per second{with_workers}"
    ]
    if cost.small_visits < cost.visits / 2:
        flags = " ".join(f"--{name} {value}" for name, value in SMALL_RUN.items())
        lines.append(f"a smaller run: {flags} takes about {duration(cost.small_visits / speed / workers)}")
    return lines


def _count(n: int) -> str:
    return f"{n:,}" if n < 1e6 else f"{n / 1e6:,.{0 if n >= 1e7 else 1}f} million"


def duration(seconds: float) -> str:
    """About how long, in the largest unit of which it is at least two."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(1, round(seconds))} seconds" if seconds >= 1.5 else "1 second"
