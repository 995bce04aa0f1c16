"""From an arm's name to its settings."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from hardmil.config.evaluation import AutoConfig, FisherConfig
from hardmil.config.mining import REVIEW, MiningConfig, VerdictChoice
from hardmil.config.model import BagKind, PoolingConfig, ResolvedModelConfig, resolve_config
from hardmil.config.section import Section
from hardmil.config.study import StudyConfig, model_config
from hardmil.errors import ConfigError
from hardmil.evaluation.arm_name import MINING_USES, PSEUDO, Use, parse_arm_name
from hardmil.mining.procedure import check_mining

BASES = {
    "ours": "adaptive-attention",
    "abmil": "attention",
    "gated": "gated-attention",
    "linear": "linear-attention",
    "conjunctive": "conjunctive",
    "mean": "mean",
    "max": "max",
    "topk": "topk",
    "noisy-and": "noisy-and",
    "quantile": "quantile",
    "dsmil": "dsmil",
    "transmil": "transmil",
    "clam-sb": "clam-sb",
    "clam-mb": "clam-mb",
    "dtfd": "dtfd",
    "em": "mean",
}
ATTENTION_BASES = ("ours", "abmil", "gated", "linear", "conjunctive")
"""Bases that compute attention from the embeddings; options that change attention fit these."""
EM, EM_TOP = "em", 5
FISHER = "sdr-svm"
AUTO = "auto"
MHIM, PSEMIX = "mhim", "psemix"
TWO_CLASSES_ONLY = (
    *("dsmil", "transmil", "clam-sb", "clam-mb", "dtfd", EM, FISHER),
    *("rank", PSEUDO, MHIM, PSEMIX),
)
"""Bases, options and uses that are not made for more than two classes."""
BETA = 0.5
RANK_WEIGHT = 0.5
HARDEST = 0.1
MASK_TOP = 10
SMOOTH_STEPS = 4
MHIM_SHARE = 0.05
PSEMIX_PARTS = 30
REVIEW_FULL_AT = 10
ROUNDS = 3
CHOICES = get_args(VerdictChoice)
# What the options of all mining uses set, and those of single uses.
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
    """One of the configurations compared.

    `uses_verdicts` is whether verdicts on patches are part of its training. `fisher` is None except for
    `sdr-svm`, which is not a network. `auto` and `candidates` are those of the arm `auto`, which takes one of
    its candidates; its other settings are those of the first.
    """

    name: str
    model: ResolvedModelConfig
    mining: MiningConfig
    uses_verdicts: bool = False
    fisher: FisherConfig | None = None
    auto: AutoConfig | None = None
    candidates: "tuple[Arm, ...]" = ()

    @property
    def base(self) -> str:
        """The first part of its name."""
        return parse_arm_name(self.name).base

    @property
    def may_use_verdicts(self) -> bool:
        """Whether verdicts are part of its training, or of that of one of its candidates."""
        return self.uses_verdicts or any(one.uses_verdicts for one in self.candidates)

    @property
    def is_control(self) -> bool:
        """Whether it is the random control of another arm."""
        return parse_arm_name(self.name).is_control


def arm(name: str, *, study: StudyConfig, kind: BagKind) -> Arm:
    """The arm with this name; settings that the name does not mention are those of the study.

    Options of the base say how a bag is scored: `top5`, by the mean of its five highest instance logits;
    `mean`, by the mean of all. The base `topk` is also trained with the number that `top5` sets. `masktop`
    and `smooth` change attention: some of the most attended instances are left out in training, or attention
    logits are averaged with those of adjacent patches. `mhim` leaves out instances in training by the
    attention of a teacher, and `psemix` mixes training bags. `seeds5` averages five networks.
    Uses that mine are `sb`, `mb`, `fmb`, `inject` and `weigh` (options `oof`, `rounds`, `continue`; for fmb
    also `equal`, `stratified`; for inject `positive`, `negative`, `both`, `replace`). Other uses are
    `instance` (option `hardest`), `rank`, `pseudo` (option `rounds`) and `verdicts` (options: a budget such
    as `10`; `attention`, `random`, `uncertainty`, `spread`, `disagreement`). `@random` is the control of an
    arm that mines, or of `pseudo`.

    Args:
        name: base[-option]...[+use[-option]...][@random].
        study: The settings of the study.
        kind: The kind of bag it is trained on.

    Raises:
        ConfigError: If a part of the name is not known.
    """
    parts = parse_arm_name(name)
    if parts.base == AUTO:
        return _auto_arm(name, study=study, kind=kind)
    model = resolve_config(model_config(study), kind=kind)
    if parts.base == FISHER:
        _check_classes(name, model=model, uses=[FISHER])
        return _fisher_arm(name, study=study, model=model)
    if parts.base not in BASES:
        raise _unknown(name, part=parts.base, known=[*BASES, FISHER, AUTO])
    n_networks, options = _n_networks(name, options=parts.base_options)
    model = _with(model, "training", n_networks=n_networks or model.training.n_networks)
    model, options = _with_rival_options(name, base=parts.base, options=options, model=model)
    settings = _base_settings(name, base=parts.base, options=options, pooling=model.pooling)
    model = _with(model, "pooling", kind=BASES[parts.base], **settings)
    mining, uses_verdicts = _plain_mining(study), False
    if parts.base == EM:
        model, mining = _as_em(model, mining=mining)
    for use in parts.uses:
        if use.name == "instance":
            model = _with_instance_loss(name, model=model, options=use.options)
        elif use.name == "rank":
            model = _with_rank_loss(name, model=model, options=use.options)
        elif use.name == "verdicts":
            mining, uses_verdicts = _with_verdicts(name, mining=mining, options=use.options), True
            model = _with_review(model) if mining.verdicts == REVIEW else model
        elif use.name == PSEUDO:
            model = _with_verdict_loss(model)
            mining = _with_pseudo(name, mining=mining, options=use.options)
        elif use.name in MINING_USES:
            mining = _with_mining(name, mining=mining, use=use)
        else:
            raise _unknown(name, part=use.name, known=[*MINING_USES, "instance", "rank", PSEUDO, "verdicts"])
    if mining.use == "weigh":
        model = _with(model, "instance_loss", beta=model.instance_loss.beta or BETA)
    check_mining(mining)
    if parts.control is not None:
        mining = _as_control(name, mining=mining, control=parts.control)
    used = [parts.base, *parts.base_options]
    _check_classes(name, model=model, uses=[*used, *(use.name for use in parts.uses)])
    return Arm(name, model, mining, uses_verdicts)


def _check_classes(name: str, *, model: ResolvedModelConfig, uses: Sequence[str]) -> None:
    found = [use for use in uses if use in TWO_CLASSES_ONLY]
    if found and not model.task.is_binary:
        raise ConfigError(
            f"arm {name}: {found[0]} is for two classes, and the study has {model.task.n_classes}; expected "
            f"an arm without {', '.join(TWO_CLASSES_ONLY)}"
        )


def check_arms(names: Iterable[str], *, study: StudyConfig) -> None:
    """Check the names of arms before bags are read, which takes time.

    Raises:
        ConfigError: If a part of a name is not known.
    """
    for name in names:
        arm(name, study=study, kind="features")


def _auto_arm(name: str, *, study: StudyConfig, kind: BagKind) -> Arm:
    if name != AUTO:
        raise ConfigError(
            f"arm {name}: {AUTO} stands alone; put the arms that it chooses from into auto.candidates"
        )
    names = tuple(dict.fromkeys(study.auto.candidates))
    if AUTO in names:
        raise ConfigError(f"auto.candidates: contains {AUTO} itself; expected other arms")
    candidates = tuple(arm(one, study=study, kind=kind) for one in names)
    return replace(candidates[0], name=AUTO, auto=study.auto, candidates=candidates)


def _fisher_arm(name: str, *, study: StudyConfig, model: ResolvedModelConfig) -> Arm:
    if name != FISHER:
        raise ConfigError(
            f"arm {name}: {FISHER} has no instances to mine or to judge; expected its name alone"
        )
    mining = study.mining.model_copy(update={"use": "none"})
    return Arm(name, model, mining, fisher=study.fisher)


def _n_networks(name: str, *, options: Sequence[str]) -> tuple[int | None, list[str]]:
    """How many networks the options of a base ask for, if they do, and the other options."""
    found = [option for option in options if re.fullmatch(r"seeds([2-9]|1\d|20)", option)]
    if len(found) > 1:
        raise _contradiction(name, option=found[1])
    others = [option for option in options if option not in found]
    return (int(found[0].removeprefix("seeds")) if found else None), others


def _with_rival_options(
    name: str, *, base: str, options: Sequence[str], model: ResolvedModelConfig
) -> tuple[ResolvedModelConfig, list[str]]:
    """The model with what `mhim` and `psemix` set, and the other options."""
    found = [option for option in options if option in (MHIM, PSEMIX)]
    for number, option in enumerate(found):
        _check_has_attention(name, base=base, option=option)
        if option in found[:number]:
            raise _contradiction(name, option=option)
    if MHIM in found:
        model = _with(model, "teacher", mask_share=model.teacher.mask_share or MHIM_SHARE)
    if PSEMIX in found:
        model = _with(model, "bag_mix", n_parts=model.bag_mix.n_parts or PSEMIX_PARTS)
    return model, [option for option in options if option not in found]


def _check_has_attention(name: str, *, base: str, option: str) -> None:
    if base not in ATTENTION_BASES:
        raise ConfigError(
            f"arm {name}: {option!r} is for a base that computes attention from the embeddings, and {base} "
            f"computes none; expected one of {', '.join(ATTENTION_BASES)} as the base"
        )


def _base_settings(
    name: str, *, base: str, options: Sequence[str], pooling: PoolingConfig
) -> dict[str, object]:
    """What the options of a base change in the settings of the pooling."""
    of_attention: dict[str, dict[str, object]] = {
        "masktop": {"mask_top": pooling.mask_top or MASK_TOP},
        "smooth": {"smooth_steps": pooling.smooth_steps or SMOOTH_STEPS},
    }
    settings: dict[str, object] = {}
    for option in options:
        top = re.fullmatch(r"top([1-9]\d*)", option)
        if option in of_attention:
            _check_has_attention(name, base=base, option=option)
        if top is None and option != "mean" and option not in of_attention:
            raise _unknown(
                name,
                part=option,
                known=["top5 or another number", "mean", "seeds5", *of_attention, MHIM, PSEMIX],
            )
        scoring = {"score": "top", "top_k": int(top[1])} if top else {"score": "mean"}
        changed = of_attention.get(option, scoring)
        if changed.keys() & settings.keys():
            raise _contradiction(name, option=option)
        settings |= changed
    return settings


def _with(model: ResolvedModelConfig, section: str, **settings: object) -> ResolvedModelConfig:
    changed: Section = getattr(model, section).model_copy(update=settings)
    return model.model_copy(update={section: changed})


def _with_instance_loss(
    name: str, *, model: ResolvedModelConfig, options: Sequence[str]
) -> ResolvedModelConfig:
    settings: dict[str, float] = {"beta": model.instance_loss.beta or BETA}
    for option in options:
        if option != "hardest":
            raise _unknown(name, part=option, known=["hardest"])
        settings["hardest"] = HARDEST
    return _with(model, "instance_loss", **settings)


def _plain_mining(study: StudyConfig) -> MiningConfig:
    """The settings of mining with nothing turned on; the name of an arm does that."""
    off = study.mining.self_judged.model_copy(update={"how": "none"})
    return study.mining.model_copy(update={"use": "none", "draw": "hard", "self_judged": off})


def _as_em(model: ResolvedModelConfig, *, mining: MiningConfig) -> tuple[ResolvedModelConfig, MiningConfig]:
    """Instances learn from their own labels, and a bag is scored by the highest of them."""
    model = _with(_with_verdict_loss(model), "training", bag_loss=0.0)
    if model.pooling.score == "bag":
        model = _with(model, "pooling", score="top", top_k=EM_TOP)
    return model, _judging(mining, how="em", rounds=ROUNDS)


def _with_verdict_loss(model: ResolvedModelConfig) -> ResolvedModelConfig:
    """Instance labels need the loss that uses them, even if the study has turned it off."""
    return _with(model, "verdict_loss", rho=model.verdict_loss.rho or 1.0)


def _with_review(model: ResolvedModelConfig) -> ResolvedModelConfig:
    """Few verdicts on a bag count less, unless the study says otherwise."""
    return _with(model, "verdict_loss", full_at=model.verdict_loss.full_at or REVIEW_FULL_AT)


def _judging(mining: MiningConfig, *, how: str, rounds: int) -> MiningConfig:
    settings = mining.self_judged.model_copy(
        update={"how": how, "rounds": max(mining.self_judged.rounds, rounds)}
    )
    return mining.model_copy(update={"self_judged": settings})


def _with_pseudo(name: str, *, mining: MiningConfig, options: Sequence[str]) -> MiningConfig:
    if mining.self_judged.how != "none":
        raise ConfigError(f"arm {name}: judges its instances twice; expected either {EM} or +{PSEUDO}")
    for option in options:
        if option != "rounds":
            raise _unknown(name, part=option, known=["rounds"])
    return _judging(mining, how="pseudo", rounds=ROUNDS if options else 1)


def _with_rank_loss(name: str, *, model: ResolvedModelConfig, options: Sequence[str]) -> ResolvedModelConfig:
    if options:
        raise ConfigError(f"arm {name}: {options[0]!r} is not known, +rank has no options; leave it out")
    return _with(model, "rank_loss", weight=model.rank_loss.weight or RANK_WEIGHT)


def _with_mining(name: str, *, mining: MiningConfig, use: Use) -> MiningConfig:
    if mining.use != "none":
        raise ConfigError(
            f"arm {name}: mines twice ({mining.use} and {use.name}), expected one of {', '.join(MINING_USES)}"
        )
    settings: dict[str, object] = {"use": use.name}
    meaning = _OF_ANY_USE | _OF_ONE_USE.get(use.name, {})
    for option in use.options:
        if option not in meaning:
            raise _unknown(name, part=option, known=list(meaning))
        if meaning[option].keys() & settings.keys():
            raise _contradiction(name, option=option)
        settings |= meaning[option]
    if "rounds" in settings:
        settings["rounds"] = max(mining.rounds, ROUNDS)
    return mining.model_copy(update=settings)


def _with_verdicts(name: str, *, mining: MiningConfig, options: Sequence[str]) -> MiningConfig:
    settings: dict[str, object] = {}
    for option in options:
        key = "verdict_budget" if option.isdecimal() and int(option) > 0 else "verdict_choice"
        if key == "verdict_choice" and option not in CHOICES:
            raise _unknown(name, part=option, known=["a number of patches such as 10", *CHOICES])
        if key in settings:
            raise _contradiction(name, option=option)
        settings[key] = int(option) if key == "verdict_budget" else option
    return mining.model_copy(update=settings)


def _as_control(name: str, *, mining: MiningConfig, control: str) -> MiningConfig:
    if control != "random":
        raise _unknown(name, part=control, known=["random"])
    if mining.use == "none" and mining.self_judged.how != "pseudo":
        raise ConfigError(
            f"arm {name}: @random is the control of an arm that mines, and this one does not; "
            f"add one of {', '.join(f'+{use}' for use in (*MINING_USES, PSEUDO))}, or leave @random out"
        )
    return mining.model_copy(update={"draw": "random"})


def _contradiction(name: str, *, option: str) -> ConfigError:
    return ConfigError(f"arm {name}: {option!r} contradicts an earlier option; keep one of the two")


def _unknown(name: str, *, part: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(part, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(f"arm {name}: {part!r} is not known, expected one of {', '.join(known)}{hint}")
