"""The check that nothing in a trial is fitted with a case outside its training fold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hardmil.bags.bag import Bag
from hardmil.config.model import ResolvedModelConfig
from hardmil.errors import FoldError
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import TrainingExtras
from hardmil.mining.hard_instances import HardInstance
from hardmil.mining.procedure import Train


@dataclass(frozen=True)
class Guard:
    """The cases of a training fold; everything that is fitted is checked here first.

    Networks, feature scaling, hard bags and K-means use only what `train` was given and what was mined; a
    Fisher mixture uses only what `check_bags` was given.
    """

    allowed: frozenset[str]
    where: str

    def check_bags(self, bags: Sequence[Bag], *, what: str) -> None:
        """Check the bags that something is fitted on.

        Raises:
            FoldError: If one is of another case; case and slide are named.
        """
        self._check({bag.case_id for bag in bags}, what=what)

    def check_mined(self, pool: Iterable[HardInstance]) -> None:
        """Check what was mined.

        Raises:
            FoldError: If an instance is of another case.
        """
        for one in pool:
            self._check({one.case_id}, what=f"instance {one.instance} of slide {one.slide_id}, mined,")

    def watched(self, train: Train) -> Train:
        """The same training function; each call is checked."""
        return _Watched(self, train)

    def _check(self, cases: set[str], *, what: str) -> None:
        outside = sorted(cases - self.allowed)
        if outside:
            raise FoldError(
                f"{self.where}: {what} comes from case {outside[0]}, which is not in the training fold; "
                "expected only its cases; this is a leak, please report it"
            )


@dataclass(frozen=True)
class _Watched:
    guard: Guard
    train: Train

    def __call__(
        self,
        bags: Sequence[Bag],
        *,
        config: ResolvedModelConfig,
        seed: int,
        extras: TrainingExtras | None = None,
        start: BagClassifier | None = None,
    ) -> BagClassifier:
        """Train, if everything is from the training fold."""
        self.guard.check_bags(bags, what="a training bag")
        if extras is not None:
            self.guard._check(extras.cases(), what="a mined instance")
        return self.train(bags, config=config, seed=seed, extras=extras, start=start)
