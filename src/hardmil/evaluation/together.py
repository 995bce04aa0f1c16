"""Trials that run at the same time in one process, so that their trainings can be one population.

Each trial runs in a thread until it needs a training, and waits. When all wait, the trainings they wait for
are run, in as few populations as possible, and the trials go on.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from hardmil.bags.bag import Bag
from hardmil.config.model import ResolvedModelConfig
from hardmil.device import Device
from hardmil.errors import HardmilError, TrainingError
from hardmil.jobs.progress import progress
from hardmil.mil.network import BagClassifier
from hardmil.mil.population import Training, can_join_population, fit_population

Item = TypeVar("Item")

TRIALS_A_NETWORK = 4
"""Trials that run at the same time, for each network of a population: the arms of a fold share their base."""

PATCH_BYTES = 400_000
"""Memory of one patch in a step of a population, in bfloat16, with gradients and its copies in windows."""


@dataclass(eq=False)
class Request:
    """A training that trials wait for: `alone` runs it, `keep` is called with the trained network."""

    training: Training
    config: ResolvedModelConfig
    alone: Callable[[], BagClassifier]
    keep: Callable[[BagClassifier], None]
    n_waiting: int = 0
    is_done: bool = False
    error: HardmilError | RuntimeError | None = None


class Meeting:
    """Where running trials wait for their trainings."""

    def __init__(self, *, size: int, device: Device, quiet: bool = False) -> None:
        self._size, self._device, self._quiet = size, device, quiet
        self._changed = threading.Condition()
        self._requests: dict[str, Request] = {}
        self._n_running = 0
        self._is_closed = False

    def train(
        self,
        key: str,
        training: Training,
        *,
        config: ResolvedModelConfig,
        alone: Callable[[], BagClassifier],
        keep: Callable[[BagClassifier], None],
    ) -> None:
        """Wait until this is trained; called by a running trial. Trainings with equal keys are run once.

        Args:
            key: Equal for equal trainings.
            training: What to train.
            config: Settings of model and training.
            alone: Trains it outside a population.
            keep: Called with the trained network, before the trials go on.

        Raises:
            TrainingError: If the training failed, or the run ended before it.
        """
        with self._changed:
            request = self._requests.setdefault(key, Request(training, config, alone, keep))
            request.n_waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: request.is_done or self._is_closed)
        if request.error is not None:
            raise request.error
        if not request.is_done:
            raise TrainingError("the run ended before this training began")

    def hold(self, trials: Sequence[Item], run: Callable[[Item], None]) -> None:
        """Run all trials, as many at a time as the size allows, and train what they wait for.

        An error that `run` raises ends the run, and is raised here.
        """
        left = iter(trials)
        self._n_running = min(len(trials), TRIALS_A_NETWORK * self._size)
        with ThreadPoolExecutor(max(1, self._n_running)) as pool:
            ends = [pool.submit(self._run_trials, left, run) for _ in range(self._n_running)]
            try:
                while waiting := self._wait_for_requests():
                    self._train_all(waiting)
                    self._let_go(waiting)
            finally:
                self._close()
        for end in ends:
            end.result()

    def _run_trials(self, left: Iterator[Item], run: Callable[[Item], None]) -> None:
        """One thread: trial after trial, until none is left or the run has ended."""
        has_failed = True
        try:
            while not self._is_closed and (trial := self._next_of(left)) is not None:
                run(trial)
            has_failed = False
        finally:
            with self._changed:
                self._n_running -= 1
                self._is_closed = self._is_closed or has_failed
                self._changed.notify_all()

    def _next_of(self, left: Iterator[Item]) -> Item | None:
        with self._changed:
            return next(left, None)

    def _wait_for_requests(self) -> list[Request]:
        """The requests, when all running trials wait for one; empty when no trial runs any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._n_running == self._n_blocked())
            waiting = [] if self._is_closed else list(self._requests.values())
            self._requests = {}
            return waiting

    def _n_blocked(self) -> int:
        return sum(request.n_waiting for request in self._requests.values())

    def _close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _train_all(self, requests: Sequence[Request]) -> None:
        joining = [one for one in requests if can_join_population(one.training.bags, config=one.config)]
        for alone in (one for one in requests if one not in joining):
            self._train_alone(alone)
        for group in _of_equal_kind(joining):
            for first in range(0, len(group), self._size):
                self._train_population(group[first : first + self._size])

    def _let_go(self, requests: Sequence[Request]) -> None:
        """Let the trials go on, all at the same time.

        None may go on while a network is trained: trials load networks, which draws from torch's random
        numbers, and a training sets their seed.
        """
        with self._changed:
            for request in requests:
                request.is_done = True
            self._changed.notify_all()

    def _train_alone(self, request: Request) -> None:
        try:
            network = request.alone()
        except (HardmilError, RuntimeError) as error:
            request.error = error
        else:
            request.keep(network)

    def _train_population(self, requests: Sequence[Request]) -> None:
        """Train these together; in halves if memory runs out, and one by one if a loss is not finite."""
        if len(requests) == 1:
            self._train_alone(requests[0])
            return
        try:
            networks = self._population(requests)
        except torch.OutOfMemoryError:
            half = len(requests) // 2
            parts = [requests[:half], requests[half:]]
        except TrainingError:
            parts = [[one] for one in requests]
        else:
            for request, network in zip(requests, networks, strict=True):
                request.keep(network)
            return
        for part in parts:
            self._train_population(part)

    def _population(self, requests: Sequence[Request]) -> list[BagClassifier]:
        config = requests[0].config
        n_steps = max(len(one.training.bags) for one in requests) * config.training.epochs
        with progress(f"{len(requests)} trainings at once", total=n_steps, quiet=self._quiet) as step:
            return fit_population(
                [one.training for one in requests],
                config=config,
                device=self._device,
                on_step=lambda n_patches: step(),
            ).networks


def _of_equal_kind(requests: Iterable[Request]) -> list[list[Request]]:
    """The requests that one population can hold: equal settings, patches of equal size."""
    groups: dict[object, list[Request]] = {}
    for one in requests:
        kind = (one.config.model_dump_json(), one.training.bags[0].instances.shape[1:])
        groups.setdefault(kind, []).append(one)
    return list(groups.values())


def population_size(bags: Sequence[Bag], *, device: Device, wanted: int | None) -> int:
    """How many networks train at once: as wanted, or as many as half of a GPU holds; on a CPU, one."""
    if wanted is not None:
        return wanted
    if torch.device(device.name).type != "cuda" or bags[0].kind != "pixels":
        return 1
    memory = torch.cuda.get_device_properties(device.name).total_memory
    mean_size = sum(len(bag) for bag in bags) / len(bags)
    return max(1, int(memory / 2 / (mean_size * PATCH_BYTES)))
