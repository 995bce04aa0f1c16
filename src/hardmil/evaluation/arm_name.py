"""An arm's name: base[-option]...[+use[-option]...][@random]."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

CONTROL = "@random"
COMPOUND_BASES = ("noisy-and", "sdr-svm", "clam-sb", "clam-mb")
"""Bases with a hyphen in their own name."""
MINING_USES = ("sb", "mb", "fmb", "inject", "weigh")
PSEUDO = "pseudo"


@dataclass(frozen=True)
class Use:
    """One part of an arm's name after its base, such as `fmb-equal-oof`."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class ArmName:
    """An arm's name and its parts; `control` is the part after `@`, None if there is none."""

    text: str
    base: str
    base_options: tuple[str, ...]
    uses: tuple[Use, ...]
    control: str | None

    @property
    def is_control(self) -> bool:
        """Whether it is the random control of another arm."""
        return self.control is not None

    @property
    def mines(self) -> bool:
        """Whether the arm, or the arm whose control it is, mines at all."""
        return any(use.name in MINING_USES for use in self.uses)

    @property
    def uses_verdicts(self) -> bool:
        """Whether the arm uses verdicts of a person."""
        return any(use.name == "verdicts" for use in self.uses)

    @property
    def is_centred(self) -> bool:
        """Whether a score of 0.5 means even odds: not where instance logits are averaged, as in `auto`."""
        scores_instances = any(re.fullmatch(r"top\d+|mean", option) for option in self.base_options)
        return not scores_instances and self.base not in ("auto", "em")

    @property
    def has_control(self) -> bool:
        """Whether the arm chooses instances, which its random control draws instead."""
        return self.mines or any(use.name == PSEUDO for use in self.uses)

    @property
    def its_control(self) -> str:
        """The name of its random control."""
        return self.text + CONTROL


@cache
def parse_arm_name(text: str) -> ArmName:
    """The parts of a name; they need not be known."""
    arm, at, control = text.partition("@")
    first, *parts = arm.split("+")
    base = next((one for one in COMPOUND_BASES if f"{first}-".startswith(f"{one}-")), first.split("-")[0])
    options = tuple(first[len(base) :].split("-")[1:])
    uses = (part.split("-") for part in parts)
    return ArmName(
        text,
        base,
        options,
        tuple(Use(name, tuple(options)) for name, *options in uses),
        control if at else None,
    )


def with_controls(names: Iterable[str]) -> tuple[str, ...]:
    """The names, with its random control after each arm that chooses instances, unless it is among them.

    Only the control shows whether the choice made a difference.
    """
    given = tuple(dict.fromkeys(names))
    found: list[str] = []
    for name in map(parse_arm_name, given):
        found.append(name.text)
        if name.has_control and not name.is_control and name.its_control not in given:
            found.append(name.its_control)
    return tuple(found)
