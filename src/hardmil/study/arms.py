"""An arm's name <-> its config: base[+use[-option]...][@random]."""

import difflib
from dataclasses import dataclass

from hardmil.config import MiningConfig, ModelConfig, Section, StudyConfig, model_config
from hardmil.errors import ConfigError
from hardmil.mining.procedure import check_mining

BASES = {"ours": "adaptive-attention", "abmil": "attention", "gated": "gated-attention"}
MINING_USES = ("sb", "mb", "fmb")
BETA = 0.5
HARDEST = 0.1
ROUNDS = 3


@dataclass(frozen=True)
class Arm:
    """One config among those compared."""

    name: str
    model: ModelConfig
    mining: MiningConfig


def arm(name: str, *, study: StudyConfig) -> Arm:
    """The arm of this name; what the name does not say is as in the study.

    Uses are `sb`, `mb`, `fmb` (options `oof`, `rounds`; for fmb also `equal`, `stratified`) and `instance`
    (option `hardest`). `@random` is the control of an arm that mines.

    Raises:
        ConfigError: If a part of the name is not known.
    """
    rest, at, control = name.partition("@")
    base, *uses = rest.split("+")
    if base not in BASES:
        raise _unknown(name, part=base, known=list(BASES))
    model = model_config(study)
    model = _with(model, "pooling", kind=BASES[base])
    mining = study.mining.model_copy(update={"use": "none", "draw": "hard"})
    for use in uses:
        head, *options = use.split("-")
        if head == "instance":
            model = _with_instance_loss(name, model=model, options=options)
        elif head in MINING_USES:
            mining = _with_mining(name, mining=mining, use=head, options=options)
        else:
            raise _unknown(name, part=head, known=[*MINING_USES, "instance"])
    check_mining(mining)
    if at:
        mining = _as_control(name, mining=mining, control=control)
    return Arm(name, model, mining)


def _with(model: ModelConfig, section: str, **knobs: object) -> ModelConfig:
    changed: Section = getattr(model, section).model_copy(update=knobs)
    return model.model_copy(update={section: changed})


def _with_instance_loss(name: str, *, model: ModelConfig, options: list[str]) -> ModelConfig:
    knobs: dict[str, float] = {"beta": model.instance_loss.beta or BETA}
    for option in options:
        if option != "hardest":
            raise _unknown(name, part=option, known=["hardest"])
        knobs["hardest"] = HARDEST
    return _with(model, "instance_loss", **knobs)


def _with_mining(name: str, *, mining: MiningConfig, use: str, options: list[str]) -> MiningConfig:
    if mining.use != "none":
        raise ConfigError(f"arm {name}: mines twice ({mining.use} and {use}), expected one of sb, mb, fmb")
    knobs: dict[str, object] = {"use": use}
    meaning = {
        "oof": {"source": "out-of-fold"},
        "rounds": {"rounds": max(mining.rounds, ROUNDS)},
        "equal": {"cluster_weights": "equal"},
        "stratified": {"cluster_weights": "stratified"},
    }
    known = ["oof", "rounds"] + (["equal", "stratified"] if use == "fmb" else [])
    for option in options:
        if option not in known:
            raise _unknown(name, part=option, known=known)
        if meaning[option].keys() & knobs.keys():
            raise ConfigError(f"arm {name}: {option!r} contradicts an option before it; keep one of the two")
        knobs |= meaning[option]
    return mining.model_copy(update=knobs)


def _as_control(name: str, *, mining: MiningConfig, control: str) -> MiningConfig:
    if control != "random":
        raise _unknown(name, part=control, known=["random"])
    if mining.use == "none":
        raise ConfigError(
            f"arm {name}: @random is the control of an arm that mines, and this one does not; "
            "add +sb, +mb or +fmb, or leave @random out"
        )
    return mining.model_copy(update={"draw": "random"})


def _unknown(name: str, *, part: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(part, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(f"arm {name}: {part!r} is not known, expected one of {', '.join(known)}{hint}")
