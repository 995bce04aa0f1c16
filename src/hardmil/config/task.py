"""What a network tells apart: two classes, several exclusive classes, or ordered ones.

A network has one branch for each yes-or-no question about a bag. Of two classes there is one question: is it
the positive class? Of several exclusive classes there is one for each class but the negative one, if there
is one, and of ordered classes one for each class but the lowest: is it this class or a higher one? Each
branch is a problem of multiple-instance learning of its own: where the answer is no, no instance of the bag
is of its class. The negative class needs no branch: it is the answer no to all.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from hardmil.config.section import Section

MACRO = "macro"
"""The word of the tables for the mean over more than two classes."""
Name = Annotated[str, Field(min_length=1)]


class TaskConfig(Section):
    """The classes of a study; empty where there are two, whose names the table of slides gives."""

    names: tuple[Name, ...] = ()
    """Their names in order; the position of a class is its label. Empty: two classes, 1 is positive. Two
    names treat two classes as many, which a study never does."""
    negative: str | None = None
    """The class in whose bags nothing of another class can be, such as normal. Of ordered classes it is the
    lowest."""
    ordinal: bool = False
    """Whether the classes are ordered, each higher than the one before."""

    @model_validator(mode="after")
    def _fits(self) -> "TaskConfig":
        if len(self.names) == 1:
            raise ValueError("expected no names, or two at least")
        check_classes(self.names, negative=self.negative, ordinal=self.ordinal)
        return self

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes, and so one branch."""
        return not self.names

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.names) or 2

    @property
    def n_branches(self) -> int:
        """Number of yes-or-no questions."""
        return 1 if self.is_binary else len(self.branch_names)

    @property
    def branch_names(self) -> tuple[str, ...]:
        """The class of each branch; of ordered classes, that class or a higher one."""
        return ("",) if self.is_binary else tuple(self.names[label] for label in self.branch_labels)

    @property
    def branch_labels(self) -> tuple[int, ...]:
        """The label of the class of each branch: of all classes but the negative one."""
        return tuple(label for label in range(self.n_classes) if label != self.negative_label)

    @property
    def branch_titles(self) -> tuple[str, ...]:
        """What each branch asks for, in words: a class, or a class "or higher"."""
        if not self.ordinal:
            return self.branch_names
        return (*(f"{name} or higher" for name in self.branch_names[:-1]), self.branch_names[-1])

    def branch_of(self, label: int) -> int:
        """The branch whose attention shows why a bag is called this class.

        The negative class has none; there it is the first one.
        """
        return self.branch_labels.index(label) if label in self.branch_labels else 0

    @property
    def negative_label(self) -> int | None:
        """The label of the class in whose bags nothing of another class can be; None if there is none."""
        if self.is_binary or self.ordinal:
            return 0
        return None if self.negative is None else self.names.index(self.negative)

    def is_yes(self, label: int, *, branch: int) -> bool:
        """Whether the answer of a branch is yes for a bag of this label."""
        own = self.branch_labels[branch]
        return label >= own if self.ordinal else label == own

    def is_free(self, label: int, *, branch: int) -> bool:
        """Whether no instance of a bag of this label can be of the branch's class.

        Bags of exclusive classes have nothing of another class; of ordered classes, a bag is named by the
        highest in it.
        """
        return label >= 0 and not self.is_yes(label, branch=branch)

    def may_hold(self, label: int, *, source: int) -> bool:
        """Whether a bag of this label keeps it when instances of a bag of label `source` are added to it."""
        if not self.is_binary and self.ordinal:
            return source <= label
        return source in (label, self.negative_label)

    def branch_scores(
        self, class_scores: Float[np.ndarray, " *bag class"]
    ) -> Float[np.ndarray, " *bag branch"]:
        """The score of each yes from the scores of the classes, which sum to 1."""
        return or_higher(class_scores) if self.ordinal else class_scores[..., list(self.branch_labels)]


def or_higher(of_classes: Float[np.ndarray, " *bag class"]) -> Float[np.ndarray, " *bag step"]:
    """Of each ordered class but the lowest, the sum over it and the higher ones."""
    return np.cumsum(of_classes[..., ::-1], axis=-1)[..., ::-1][..., 1:]


def of_steps(steps: Float[np.ndarray, " *bag step"]) -> Float[np.ndarray, " *bag class"]:
    """Ordered classes from what `or_higher` gives."""
    return -np.diff(steps, prepend=1.0, append=0.0)


def check_classes(names: Sequence[str], *, negative: str | None, ordinal: bool) -> None:
    """Check that names of classes differ, and that the negative one is one of them.

    Raises:
        ValueError: If not.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"classes: {', '.join(repeated)} is listed twice; expected different labels")
    if len(names) > 2 and MACRO in names:
        raise ValueError(
            f"classes: {MACRO} is the word of the tables for means over the classes; rename this label"
        )
    if negative is not None and negative not in names:
        raise ValueError(f"negative is {negative!r}; expected one of the classes, {', '.join(names)}")
    if ordinal and negative not in (None, names[0]):
        raise ValueError(
            f"negative is {negative!r}; of ordered classes, the lowest is negative; expected {names[0]}"
        )


TWO_CLASSES = TaskConfig()
