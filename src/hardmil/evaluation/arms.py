"""An arm's name <-> its config: base[+use[-option]...][@random]."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from hardmil.config.evaluation import FisherConfig
from hardmil.config.mining import MiningConfig
from hardmil.config.model import ModelConfig
from hardmil.config.study import Section, StudyConfig, model_config
from hardmil.errors import ConfigError
from hardmil.mining.procedure import check_mining

BASES = {
    "ours": "adaptive-attention",
    "abmil": "attention",
    "gated": "gated-attention",
    "mean": "mean",
    "max": "max",
    "noisy-and": "noisy-and",
    "quantile": "quantile",
}
FISHER = "sdr-svm"
CONTROL = "@random"
MINING_USES = ("sb", "mb", "fmb", "inject", "weigh")
BETA = 0.5
HARDEST = 0.1
ROUNDS = 3
CHOICES = ("attention", "random", "uncertainty", "spread")
# What an option of a mining use sets; of `fmb` and `inject` alone those below.
_OF_ANY_USE: dict[str, dict[str, object]] = {
    "oof": {"source": "out-of-fold"},
    "rounds": {"rounds": ROUNDS},
    "continue": {"retrain": "continue"},
}
_OF_ONE_USE: dict[str, dict[str, dict[str, object]]] = {
    "fmb": {"equal": {"cluster_weights": "equal"}, "stratified": {"cluster_weights": "stratified"}},
    "inject": {
        **{where: {"inject_into": where} for where in ("positive", "negative", "both")},
        "replace": {"inject_how": "replace"},
    },
}


@dataclass(frozen=True)
class Arm:
    """One config among those compared.

    `asks` is whether verdicts on patches join its training; `fisher` is None but for `sdr-svm`, which is no
    network.
    """

    name: str
    model: ModelConfig
    mining: MiningConfig
    uses_verdicts: bool = False
    fisher: FisherConfig | None = None


def arm(name: str, *, study: StudyConfig) -> Arm:
    """The arm of this name; what the name does not say is as in the study.

    Uses are those that mine, `sb`, `mb`, `fmb`, `inject`, `weigh` (options `oof`, `rounds`, `continue`; for
    fmb also `equal`, `stratified`, for inject `positive`, `negative`, `both`, `replace`), `instance` (option
    `hardest`), and `verdicts` (options: a budget such as `10`; `attention`, `random`, `uncertainty`,
    `spread`). `@random` is the control of an arm that mines.

    Raises:
        ConfigError: If a part of the name is not known.
    """
    rest, at, control = name.partition("@")
    base, *uses = rest.split("+")
    if base == FISHER:
        return _fisher_arm(name, study=study)
    if base not in BASES:
        raise _unknown(name, part=base, known=[*BASES, FISHER])
    model = model_config(study)
    model = _with(model, "pooling", kind=BASES[base])
    mining, uses_verdicts = study.mining.model_copy(update={"use": "none", "draw": "hard"}), False
    for use in uses:
        head, *options = use.split("-")
        if head == "instance":
            model = _with_instance_loss(name, model=model, options=options)
        elif head == "verdicts":
            mining, uses_verdicts = _with_verdicts(name, mining=mining, options=options), True
        elif head in MINING_USES:
            mining = _with_mining(name, mining=mining, use=head, options=options)
        else:
            raise _unknown(name, part=head, known=[*MINING_USES, "instance", "verdicts"])
    if mining.use == "weigh":
        model = _with(model, "instance_loss", beta=model.instance_loss.beta or BETA)
    check_mining(mining)
    if at:
        mining = _as_control(name, mining=mining, control=control)
    return Arm(name, model, mining, uses_verdicts)


def with_controls(names: Iterable[str]) -> tuple[str, ...]:
    """The names, and after each arm that mines its random control, unless it is among them.

    Without it nobody knows whether the hardness of what was mined did anything.
    """
    given = tuple(dict.fromkeys(names))
    found: list[str] = []
    for name in given:
        found.append(name)
        control = name + CONTROL
        if "@" not in name and mines(name) and control not in given:
            found.append(control)
    return tuple(found)


def mines(name: str) -> bool:
    """Whether the arm of this name, or whose control it is, mines at all."""
    uses = name.partition("@")[0].split("+")[1:]
    return any(use.partition("-")[0] in MINING_USES for use in uses)


def _fisher_arm(name: str, *, study: StudyConfig) -> Arm:
    if name != FISHER:
        raise ConfigError(
            f"arm {name}: {FISHER} has no instances to mine or to judge; expected its name alone"
        )
    mining = study.mining.model_copy(update={"use": "none"})
    return Arm(name, model_config(study), mining, fisher=study.fisher)


def _with(model: ModelConfig, section: str, **settings: object) -> ModelConfig:
    changed: Section = getattr(model, section).model_copy(update=settings)
    return model.model_copy(update={section: changed})


def _with_instance_loss(name: str, *, model: ModelConfig, options: list[str]) -> ModelConfig:
    settings: dict[str, float] = {"beta": model.instance_loss.beta or BETA}
    for option in options:
        if option != "hardest":
            raise _unknown(name, part=option, known=["hardest"])
        settings["hardest"] = HARDEST
    return _with(model, "instance_loss", **settings)


def _with_mining(name: str, *, mining: MiningConfig, use: str, options: list[str]) -> MiningConfig:
    if mining.use != "none":
        raise ConfigError(
            f"arm {name}: mines twice ({mining.use} and {use}), expected one of {', '.join(MINING_USES)}"
        )
    settings: dict[str, object] = {"use": use}
    meaning = _OF_ANY_USE | _OF_ONE_USE.get(use, {})
    for option in options:
        if option not in meaning:
            raise _unknown(name, part=option, known=list(meaning))
        if meaning[option].keys() & settings.keys():
            raise ConfigError(f"arm {name}: {option!r} contradicts an option before it; keep one of the two")
        settings |= meaning[option]
    if "rounds" in settings:
        settings["rounds"] = max(mining.rounds, ROUNDS)
    return mining.model_copy(update=settings)


def _with_verdicts(name: str, *, mining: MiningConfig, options: list[str]) -> MiningConfig:
    settings: dict[str, object] = {}
    for option in options:
        key = "verdict_budget" if option.isdecimal() and int(option) > 0 else "verdict_choice"
        if key == "verdict_choice" and option not in CHOICES:
            raise _unknown(name, part=option, known=["a number of patches such as 10", *CHOICES])
        if key in settings:
            raise ConfigError(f"arm {name}: {option!r} contradicts an option before it; keep one of the two")
        settings[key] = int(option) if key == "verdict_budget" else option
    return mining.model_copy(update=settings)


def _as_control(name: str, *, mining: MiningConfig, control: str) -> MiningConfig:
    if control != "random":
        raise _unknown(name, part=control, known=["random"])
    if mining.use == "none":
        raise ConfigError(
            f"arm {name}: @random is the control of an arm that mines, and this one does not; "
            f"add one of {', '.join(f'+{use}' for use in MINING_USES)}, or leave @random out"
        )
    return mining.model_copy(update={"draw": "random"})


def _unknown(name: str, *, part: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(part, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(f"arm {name}: {part!r} is not known, expected one of {', '.join(known)}{hint}")


def base_of(arm: str) -> str:
    """The base of an arm: what it is without mining or anything else added."""
    return arm.partition("@")[0].partition("+")[0]
