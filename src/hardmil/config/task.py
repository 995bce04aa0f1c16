"""What a network tells apart: two classes, several exclusive classes, ordered ones, or several at once.

A network has one branch for each yes-or-no question about a bag. Of two classes there is one question: is it
the positive class? Of several exclusive classes there is one for each class but the negative one, if there
is one, and of ordered classes one for each class but the lowest: is it this class or a higher one? Where a
bag may have several classes or none (multi-label), there is one for each: does it have this class? Each
branch is a problem of multiple-instance learning of its own: where the answer is no, no instance of the bag
is of its class. The negative class needs no branch: it is the answer no to all.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator

from hardmil.config.section import ADDED_LATER, Section

MACRO = "macro"
"""The word of the tables for the mean over more than two classes."""
JOINED, NONE = " + ", "none"
"""In the text of a multi-label label: what joins the classes of a bag, and the word for a bag without any."""
MOST_LABELS = 24
"""Classes of a multi-label study: a label has a bit for each, and float32 holds 24 bits exactly."""
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
    multi_label: bool = Field(default=False, json_schema_extra=ADDED_LATER)
    """Whether a bag may have several of the classes, or none. Its label is then a number whose bit k says
    whether it has class k."""

    @model_validator(mode="after")
    def _fits(self) -> "TaskConfig":
        if len(self.names) == 1:
            raise ValueError("expected no names, or two at least")
        check_classes(self.names, negative=self.negative, ordinal=self.ordinal, multi_label=self.multi_label)
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
    def n_labels(self) -> int:
        """Number of labels that a bag can have, from 0."""
        return 2**self.n_classes if self.multi_label else self.n_classes

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
        """The position of the class of each branch: of all classes but the negative one."""
        if self.multi_label:
            return tuple(range(self.n_classes))
        return tuple(label for label in range(self.n_classes) if label != self.negative_label)

    @property
    def branch_titles(self) -> tuple[str, ...]:
        """What each branch asks for, in words: a class, or a class "or higher"."""
        if not self.ordinal:
            return self.branch_names
        return (*(f"{name} or higher" for name in self.branch_names[:-1]), self.branch_names[-1])

    def branch_of(self, label: int, *, class_scores: Float[np.ndarray, " class"] | None = None) -> int:
        """The branch whose attention shows why a bag has this label.

        The negative class has none; there it is the first one. In a multi-label study it is that of the class
        with the highest score, among those of the label if it has some.

        Raises:
            ValueError: If it depends on the scores, and there are none.
        """
        if self.multi_label:
            if class_scores is None:
                raise ValueError("the branch of a multi-label label depends on the scores; expected some")
            return max(self.own_branches(label) or range(self.n_classes), key=lambda k: class_scores[k])
        return self.branch_labels.index(label) if label in self.branch_labels else 0

    @property
    def negative_label(self) -> int | None:
        """The label of the bags in which nothing of another class can be; None if there is none.

        In a multi-label study: of those that have none of the classes.
        """
        if self.is_binary or self.ordinal or self.multi_label:
            return 0
        return None if self.negative is None else self.names.index(self.negative)

    @property
    def negative_class(self) -> int | None:
        """The position of the negative class; None if there is none, as in a multi-label study."""
        return None if self.multi_label else self.negative_label

    def is_yes(self, label: int, *, branch: int) -> bool:
        """Whether the answer of a branch is yes for a bag of this label."""
        if self.multi_label:
            return bool(label >> branch & 1)
        own = self.branch_labels[branch]
        return label >= own if self.ordinal else label == own

    def answers(self, labels: Int[np.ndarray, " bag"]) -> Bool[np.ndarray, "bag branch"]:
        """Whether the answer of each branch is yes, for labels or predicted labels."""
        own = np.array(self.branch_labels)
        if self.multi_label:
            return (labels[:, None] >> own & 1) == 1
        return labels[:, None] >= own if self.ordinal else labels[:, None] == own

    def strata(self, labels: Int[np.ndarray, " bag"]) -> Bool[np.ndarray, "bag stratum"]:
        """Which of the groups a bag is in that training and each resample must have some of.

        These are the classes; in a multi-label study, the bags with each class and then those without.
        """
        if self.multi_label:
            yes = self.answers(labels)
            return np.concatenate([yes, ~yes], axis=1)
        return labels[:, None] == np.arange(self.n_classes)

    def fold_labels(self, labels: Int[np.ndarray, " bag"]) -> np.ndarray:
        """What folds are stratified by: the labels; in a multi-label study, `strata`."""
        return self.strata(labels) if self.multi_label else labels

    def only_class(self, label: int) -> int | None:
        """The position of the one class of a bag that is not negative; None if it has none, or several."""
        if self.multi_label:
            return label.bit_length() - 1 if label.bit_count() == 1 else None
        return None if label == self.negative_label else label

    def label_of_class(self, position: int) -> int:
        """The label of a bag that has the class at this position, and no other."""
        return 1 << position if self.multi_label else position

    def own_branches(self, label: int) -> tuple[int, ...]:
        """The branches of the classes that a bag of this label has; none if it is negative.

        Of ordered classes, only that of its own class, not those of the lower ones.
        """
        if self.multi_label:
            asked = range(self.n_classes) if label > 0 else ()
            return tuple(k for k in asked if self.is_yes(label, branch=k))
        return (self.branch_labels.index(label),) if label in self.branch_labels else ()

    def label_text(self, label: int) -> str:
        """The name of a label; in a multi-label study, its classes joined by " + ", or none."""
        if not self.multi_label:
            return self.names[label]
        return JOINED.join(name for k, name in enumerate(self.names) if label >> k & 1) or NONE

    def label_of(self, text: str) -> int:
        """The label with this text.

        Raises:
            ValueError: If there is no such class.
        """
        if not self.multi_label:
            return self.names.index(text)
        return sum(1 << self.names.index(name) for name in ([] if text == NONE else text.split(JOINED)))

    def is_free(self, label: int, *, branch: int) -> bool:
        """Whether no instance of a bag of this label can be of the branch's class.

        Bags of exclusive classes have nothing of another class; of ordered classes, a bag is named by the
        highest in it.
        """
        return label >= 0 and not self.is_yes(label, branch=branch)

    def may_hold(self, label: int, *, source: int) -> bool:
        """Whether a bag of this label keeps it when instances of a bag of label `source` are added to it."""
        if self.multi_label:
            return source & ~label == 0
        if not self.is_binary and self.ordinal:
            return source <= label
        return source in (label, self.negative_label)

    def branch_scores(
        self, class_scores: Float[np.ndarray, " *bag class"]
    ) -> Float[np.ndarray, " *bag branch"]:
        """The score of each yes from the scores of the classes."""
        return or_higher(class_scores) if self.ordinal else class_scores[..., list(self.branch_labels)]


def or_higher(of_classes: Float[np.ndarray, " *bag class"]) -> Float[np.ndarray, " *bag step"]:
    """Of each ordered class but the lowest, the sum over it and the higher ones."""
    return np.cumsum(of_classes[..., ::-1], axis=-1)[..., ::-1][..., 1:]


def of_steps(steps: Float[np.ndarray, " *bag step"]) -> Float[np.ndarray, " *bag class"]:
    """Ordered classes from what `or_higher` gives."""
    return -np.diff(steps, prepend=1.0, append=0.0)


def check_classes(
    names: Sequence[str], *, negative: str | None, ordinal: bool, multi_label: bool = False
) -> None:
    """Check that names of classes differ, and that the negative one is one of them.

    Raises:
        ValueError: If not.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"classes: {', '.join(repeated)} is listed twice; expected different labels")
    if (len(names) > 2 or multi_label) and MACRO in names:
        raise ValueError(
            f"classes: {MACRO} is the word of the tables for means over the classes; rename this label"
        )
    if negative is not None and negative not in names:
        raise ValueError(f"negative is {negative!r}; expected one of the classes, {', '.join(names)}")
    if ordinal and negative not in (None, names[0]):
        raise ValueError(
            f"negative is {negative!r}; of ordered classes, the lowest is negative; expected {names[0]}"
        )
    if multi_label:
        _check_multi_label(names, negative=negative, ordinal=ordinal)


def _check_multi_label(names: Sequence[str], *, negative: str | None, ordinal: bool) -> None:
    if negative is not None or ordinal:
        raise ValueError(
            "multi_label excludes negative and ordinal: each class is a question of its own; remove them"
        )
    if not 2 <= len(names) <= MOST_LABELS:
        raise ValueError(f"multi_label: {len(names)} classes; expected 2 to {MOST_LABELS} in `classes`")
    for name in names:
        if JOINED in f" {name} " or name.casefold() == NONE:
            raise ValueError(
                f"classes: {name!r}; with multi_label, {NONE!r} is a slide without any class, and {JOINED!r} "
                "joins the classes of a slide; rename this class"
            )


TWO_CLASSES = TaskConfig()
