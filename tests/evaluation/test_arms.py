from typing import Any

import pytest

from hardmil.config.evaluation import AutoConfig
from hardmil.config.mining import MiningConfig, SelfJudgedConfig
from hardmil.config.model import (
    BagKind,
    BagMixConfig,
    PoolingConfig,
    RankLossConfig,
    TeacherConfig,
    TrainingConfig,
    resolve_config,
)
from hardmil.config.study import StudyConfig, model_config
from hardmil.errors import ConfigError
from hardmil.evaluation.arms import ATTENTION_BASES, BASES, arm, check_arms
from hardmil.mil.logit_pooling import logit_pooling
from hardmil.mil.rivals import rival_pooling

PLAIN: dict[str, Any] = {"kind": "adaptive-attention", "beta": 0.0, "hardest": 1.0, "use": "none"}
OOF = {"source": "out-of-fold"}
TABLE: dict[str, dict[str, Any]] = {
    "ours": {},
    "abmil": {"kind": "attention"},
    "gated": {"kind": "gated-attention"},
    "ours+sb": {"use": "sb"},
    "ours+mb": {"use": "mb"},
    "ours+fmb": {"use": "fmb"},
    "ours+sb-oof": {"use": "sb"} | OOF,
    "ours+fmb-oof": {"use": "fmb"} | OOF,
    "ours+fmb-equal": {"use": "fmb", "cluster_weights": "equal"},
    "ours+fmb-stratified-oof": {"use": "fmb", "cluster_weights": "stratified"} | OOF,
    "ours+fmb-oof-stratified": {"use": "fmb", "cluster_weights": "stratified"} | OOF,
    "ours+mb-rounds": {"use": "mb", "rounds": 3},
    "ours+fmb-oof-continue": {"use": "fmb", "retrain": "continue"} | OOF,
    "linear": {"kind": "linear-attention"},
    "conjunctive+fmb": {"kind": "conjunctive", "use": "fmb"},
    "topk+instance": {"kind": "topk", "beta": 0.5},
    "mean": {"kind": "mean"},
    "max": {"kind": "max"},
    "noisy-and": {"kind": "noisy-and"},
    "quantile+fmb-oof": {"kind": "quantile", "use": "fmb"} | OOF,
    "ours+inject": {"use": "inject"},
    "ours+inject-positive-oof": {"use": "inject", "inject_into": "positive"} | OOF,
    "ours+inject-negative-replace@random": {
        "use": "inject",
        "inject_into": "negative",
        "inject_how": "replace",
        "draw": "random",
    },
    "ours+weigh-oof": {"use": "weigh", "beta": 0.5} | OOF,
    "ours+instance-hardest+weigh": {"use": "weigh", "beta": 0.5, "hardest": 0.1},
    "ours+instance": {"beta": 0.5},
    "ours+instance-hardest": {"beta": 0.5, "hardest": 0.1},
    "ours+instance+fmb-oof": {"beta": 0.5, "use": "fmb"} | OOF,
    "abmil+fmb-oof+instance": {"kind": "attention", "beta": 0.5, "use": "fmb"} | OOF,
    "ours+fmb@random": {"use": "fmb", "draw": "random"},
    "gated+instance+mb-oof-rounds@random": {
        "kind": "gated-attention",
        "beta": 0.5,
        "use": "mb",
        "rounds": 3,
        "draw": "random",
    }
    | OOF,
}


@pytest.mark.parametrize(("name", "differs"), TABLE.items(), ids=TABLE)
def test_names_and_what_they_change(name: str, differs: dict[str, Any]):
    study = StudyConfig()
    found = arm(name, study=study, kind="features")
    assert found.name == name
    expected = PLAIN | differs
    model, mining = resolve_config(model_config(study), kind="features"), MiningConfig()
    pooling = model.pooling.model_copy(update={"kind": expected.pop("kind")})
    terms = {"beta": expected.pop("beta"), "hardest": expected.pop("hardest")}
    instance_loss = model.instance_loss.model_copy(update=terms)
    assert found.model == model.model_copy(update={"pooling": pooling, "instance_loss": instance_loss})
    assert found.mining == mining.model_copy(update=expected)


@pytest.mark.parametrize(("kind", "epochs", "attention_dim"), [("pixels", 120, 128), ("features", 30, 64)])
def test_what_the_study_leaves_open_is_set_by_the_kind_of_bag(kind: BagKind, epochs: int, attention_dim: int):
    model = arm("abmil", study=StudyConfig(), kind=kind).model
    assert (model.training.epochs, model.pooling.attention_dim) == (epochs, attention_dim)


def test_an_arm_knows_its_base_and_whether_it_is_a_control():
    control = arm("abmil+fmb-oof@random", study=StudyConfig(), kind="features")
    assert (control.base, control.is_control) == ("abmil", True)
    assert not arm("abmil+fmb-oof", study=StudyConfig(), kind="features").is_control


def test_names_are_checked_before_bags_are_read():
    check_arms(["ours", "sdr-svm", "ours+fmb@random"], study=StudyConfig())
    with pytest.raises(ConfigError, match=r"arm ours\+fbm: .* did you mean fmb"):
        check_arms(["ours", "ours+fbm"], study=StudyConfig())


def test_the_arm_without_a_network():
    study = StudyConfig.model_validate({"fisher": {"n_modes": 5}, "mining": {"use": "fmb"}})
    found = arm("sdr-svm", study=study, kind="features")
    assert found.fisher == study.fisher
    assert found.mining.use == "none"
    assert arm("ours", study=study, kind="features").fisher is None
    with pytest.raises(ConfigError, match=r"arm sdr-svm\+fmb: sdr-svm has no instances"):
        arm("sdr-svm+fmb", study=study, kind="features")


@pytest.mark.parametrize(
    ("name", "budget", "choice"),
    [
        ("ours+verdicts", None, "attention"),
        ("ours+verdicts-10", 10, "attention"),
        ("ours+instance+verdicts-5-random", 5, "random"),
        ("ours+verdicts-spread-20", 20, "spread"),
        ("ours+verdicts-uncertainty", None, "uncertainty"),
    ],
)
def test_arms_that_use_verdicts(name: str, budget: int | None, choice: str):
    found = arm(name, study=StudyConfig(), kind="features")
    assert found.uses_verdicts
    assert (found.mining.use, found.mining.verdict_budget, found.mining.verdict_choice) == (
        "none",
        budget,
        choice,
    )
    assert not arm("ours+instance", study=StudyConfig(), kind="features").uses_verdicts


def test_what_a_name_does_not_say_is_as_in_the_study():
    study = StudyConfig(
        pooling=PoolingConfig(kind="attention", lam=3.0),
        training=TrainingConfig(epochs=7),
        mining=MiningConfig(use="sb", draw="random", source="out-of-fold", n_clusters=9, rounds=5),
    )
    found = arm("ours+fmb-rounds", study=study, kind="features")
    assert (found.model.pooling.kind, found.model.pooling.lam) == ("adaptive-attention", 3.0)
    assert found.model.training.epochs == 7
    assert found.mining == MiningConfig(use="fmb", source="out-of-fold", n_clusters=9, rounds=5)
    assert arm("ours", study=study, kind="features").mining.use == "none"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("our", r"arm our: 'our' is not known, expected one of ours, abmil, gated, .*; did you mean ours\?"),
        ("", "arm : '' is not known, expected one of ours"),
        ("ours+fmbb", r"'fmbb' is not known, expected one of sb, mb, fmb, inject, .* did you mean fmb\?"),
        ("ours-tpo5", r"'tpo5' is not known, expected one of top5 or another number, mean"),
        ("ours-seeds1", "'seeds1' is not known, .* seeds5"),
        ("ours-seeds5-seeds3", "'seeds3' contradicts an earlier option"),
        ("ours-", r"'' is not known, expected one of top5"),
        ("ours-top5-mean", "'mean' contradicts an earlier option"),
        ("ours-masktop-top5-masktop", "'masktop' contradicts an earlier option"),
        ("ours-maskto", r"'maskto' is not known, .*; did you mean masktop\?"),
        (
            "mean-masktop",
            "'masktop' is for a base that computes .*, and mean .* one of ours, abmil, gated",
        ),
        (
            "topk-masktop",
            "'masktop' is for a base that computes .*, and topk .* linear, conjunctive",
        ),
        (
            "mean-smooth",
            "'smooth' is for a base that computes .*, and mean .* one of ours, abmil, gated",
        ),
        (
            "noisy-and-smooth",
            "'smooth' is for a base that computes .*, and noisy-and computes none",
        ),
        ("ours-smooth-smooth", "'smooth' contradicts an earlier option"),
        ("ours-mhim-top5-mhim", "'mhim' contradicts an earlier option"),
        ("topk-mhim", "'mhim' is for a base that computes .*, and topk computes none; expected one of ours"),
        ("dsmil-psemix", "'psemix' is for a base that computes .*, and dsmil computes none"),
        ("ours-psemi", r"'psemi' is not known, .*; did you mean psemix\?"),
        ("sdr-svm-masktop", "expected its name alone"),
        ("sdr-svm-top5", "expected its name alone"),
        ("em+pseudo", "judges its instances twice"),
        ("ours+pseudo-round", "'round' is not known, expected one of rounds; did you mean rounds"),
        ("em@random", "@random is the control of an arm that mines, and this one does not; .* \\+pseudo"),
        ("auto+instance", "auto stands alone; put the arms .* into auto.candidates"),
        ("ours+instances", r"'instances' is not known, .* did you mean instance\?"),
        (
            "ours+fmb-of",
            r"'of' is not known, expected one of oof, rounds, continue, equal, .*; did you mean oof\?",
        ),
        ("ours+mb-equal", r"'equal' is not known, expected one of oof, rounds, continue$"),
        ("ours+inject-equal", r"'equal' is not known, .* positive, negative, both, replace$"),
        ("ours+inject-positive-both", "'both' contradicts an "),
        ("ours+verdicts-0", r"'0' is not known, expected one of a number of patches such as 10, attention"),
        ("ours+verdicts-5-10", "'10' contradicts an "),
        ("ours+verdicts@random", "@random is the control of an arm that mines"),
        ("ours+instance-oof", "'oof' is not known, expected one of hardest"),
        ("ours+rank-hardest", r"'hardest' is not known, \+rank has no options"),
        ("ours+rnk", r"'rnk' is not known, .* did you mean rank\?"),
        ("ours+fmb-", "'' is not known, expected one of oof"),
        ("ours+", "'' is not known, expected one of sb"),
        ("ours+fmb+mb", r"mines twice \(fmb and mb\), expected one of sb, mb, fmb"),
        ("ours+fmb@rand", r"'rand' is not known, expected one of random; did you mean random\?"),
        ("ours+fmb@", "'' is not known, expected one of random"),
        ("ours@random", r"@random is the control of an arm that mines, .* add one of \+sb, \+mb, \+fmb"),
        ("ours+instance@random", "@random is the control of an arm that mines"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str):
    with pytest.raises(ConfigError, match=message):
        arm(name, study=StudyConfig(), kind="features")


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="'stratified' contradicts an "):
        arm("ours+fmb-equal-stratified", study=StudyConfig(), kind="features")


def test_a_sensitivity_threshold_is_refused_before_anything_is_trained() -> None:
    study = StudyConfig(mining=MiningConfig(threshold="sensitivity=0.95"))
    assert arm("ours", study=study, kind="features").mining.use == "none"
    assert arm("ours+fmb-oof", study=study, kind="features").mining.threshold == "sensitivity=0.95"
    with pytest.raises(ConfigError, match=r"set mining\.source to out-of-fold"):
        arm("ours+fmb", study=study, kind="features")


@pytest.mark.parametrize(
    ("name", "score", "top_k"),
    [("ours-top5", "top", 5), ("abmil-top12+instance", "top", 12), ("noisy-and-mean", "mean", 5)],
)
def test_options_of_a_base_say_how_a_bag_is_scored(name: str, score: str, top_k: int):
    pooling = arm(name, study=StudyConfig(), kind="features").model.pooling
    assert (pooling.score, pooling.top_k) == (score, top_k)


def test_auto_has_its_candidates_in_their_order():
    study = StudyConfig(auto=AutoConfig(candidates=("abmil-mean", "ours+verdicts", "abmil-mean")))
    found = arm("auto", study=study, kind="features")
    assert [one.name for one in found.candidates] == ["abmil-mean", "ours+verdicts"]
    assert found.model == found.candidates[0].model
    assert (found.uses_verdicts, found.may_use_verdicts) == (False, True)
    assert (found.base, found.auto) == ("auto", study.auto)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (("ours", "auto"), "auto.candidates: contains auto itself"),
        (("ours", "ours+fbm"), "'fbm' is not known"),
    ],
)
def test_candidates_that_cannot_be_are_refused(candidates: tuple[str, ...], message: str):
    with pytest.raises(ConfigError, match=message):
        check_arms(["auto"], study=StudyConfig(auto=AutoConfig(candidates=candidates)))


@pytest.mark.parametrize("base", ATTENTION_BASES)
def test_some_of_the_most_attended_instances_are_left_out_in_training(base: str):
    plain = arm(base, study=StudyConfig(), kind="features").model.pooling
    found = arm(f"{base}-masktop", study=StudyConfig(), kind="features").model.pooling
    assert (plain.mask_top, plain.mask_share) == (0, 0.6)
    assert found == plain.model_copy(update={"mask_top": 10})
    study = StudyConfig(pooling=PoolingConfig(mask_top=4, mask_share=0.5))
    pooling = arm(f"{base}-top3-masktop+instance", study=study, kind="features").model.pooling
    assert (pooling.mask_top, pooling.mask_share, pooling.score, pooling.top_k) == (4, 0.5, "top", 3)


def test_bases_with_attention_are_those_whose_pooling_has_an_attention_layer_alone():
    kinds = {base: PoolingConfig.model_validate({"kind": kind}) for base, kind in BASES.items()}
    others = [base for base, kind in kinds.items() if rival_pooling(kind, embedding_dim=4) is None]
    assert set(ATTENTION_BASES) == {base for base in others if logit_pooling(kinds[base]) is None}


@pytest.mark.parametrize(("name", "beta"), [("ours+rank", 0.0), ("topk+instance+rank+fmb-oof", 0.5)])
def test_the_rank_loss_is_an_addition_to_any_arm(name: str, beta: float):
    model = arm(name, study=StudyConfig(), kind="features").model
    assert (model.rank_loss, model.instance_loss.beta) == (RankLossConfig(weight=0.5), beta)
    study = StudyConfig(rank_loss=RankLossConfig(weight=2.0, margin=3.0))
    assert arm(name, study=study, kind="features").model.rank_loss == study.rank_loss
    assert arm("ours", study=StudyConfig(), kind="features").model.rank_loss.weight == 0


@pytest.mark.parametrize(
    ("name", "judged", "draw"),
    [
        ("ours+pseudo", SelfJudgedConfig(how="pseudo"), "hard"),
        ("abmil-top5+instance+pseudo-rounds", SelfJudgedConfig(how="pseudo", rounds=3), "hard"),
        ("ours+pseudo@random", SelfJudgedConfig(how="pseudo"), "random"),
        ("em", SelfJudgedConfig(how="em", rounds=3), "hard"),
    ],
)
def test_arms_that_judge_their_own_instances(name: str, judged: SelfJudgedConfig, draw: str):
    study = StudyConfig.model_validate(
        {"verdict_loss": {"rho": 0}, "mining": {"self_judged": {"how": "em", "lesion_quantile": 0.9}}}
    )
    found = arm(name, study=study, kind="features")
    assert found.mining.self_judged == judged.model_copy(update={"lesion_quantile": 0.9})
    assert (found.mining.use, found.mining.draw) == ("none", draw)
    assert found.model.verdict_loss.rho == 1, "without it, the labels would have no effect"
    assert arm("ours", study=study, kind="features").mining.self_judged.how == "none"


@pytest.mark.parametrize(
    ("name", "score", "top_k"), [("em", "top", 5), ("em-mean", "mean", 5), ("em-top3", "top", 3)]
)
def test_em_learns_from_instances_alone(name: str, score: str, top_k: int):
    model = arm(name, study=StudyConfig(), kind="features").model
    assert (model.training.bag_loss, model.pooling.kind) == (0, "mean")
    assert (model.pooling.score, model.pooling.top_k) == (score, top_k)
    assert arm("mean", study=StudyConfig(), kind="features").model.training.bag_loss == 1


@pytest.mark.parametrize("base", ATTENTION_BASES)
def test_attention_can_be_smoothed(base: str):
    plain = arm(base, study=StudyConfig(), kind="features").model.pooling
    found = arm(f"{base}-smooth", study=StudyConfig(), kind="features").model.pooling
    assert found == plain.model_copy(update={"smooth_steps": 4})
    study = StudyConfig(pooling=PoolingConfig(smooth_steps=2, smooth_alpha=0.3))
    pooling = arm(f"{base}-masktop-smooth", study=study, kind="features").model.pooling
    assert (pooling.smooth_steps, pooling.smooth_alpha, pooling.mask_top) == (2, 0.3, 10)


@pytest.mark.parametrize("base", ATTENTION_BASES)
def test_options_of_rivals(base: str):
    plain = arm(base, study=StudyConfig(), kind="features").model
    found = arm(f"{base}-psemix-top5-mhim", study=StudyConfig(), kind="features").model
    assert (plain.bag_mix.n_parts, plain.teacher.mask_share) == (0, 0.0)
    assert (found.bag_mix.n_parts, found.teacher.mask_share, found.pooling.score) == (30, 0.05, "top")
    study = StudyConfig(bag_mix=BagMixConfig(n_parts=7), teacher=TeacherConfig(mask_share=0.2, momentum=0.5))
    model = arm(f"{base}-mhim-psemix+instance", study=study, kind="features").model
    assert (model.bag_mix, model.teacher) == (study.bag_mix, study.teacher)


def test_several_networks_can_be_averaged():
    model = arm("ours-top5-seeds5+instance", study=StudyConfig(), kind="features").model
    assert (model.training.n_networks, model.pooling.score) == (5, "top")
    study = StudyConfig(training=TrainingConfig(n_networks=3))
    assert arm("abmil", study=study, kind="features").model.training.n_networks == 3


def test_few_verdicts_of_a_review_count_less_unless_the_study_says_otherwise():
    def full_at(**settings: Any) -> int | None:
        config = StudyConfig.model_validate(settings)
        return arm("ours+instance+verdicts", study=config, kind="features").model.verdict_loss.full_at

    assert full_at() is None
    assert full_at(mining={"verdicts": "table.csv"}) is None
    assert full_at(mining={"verdicts": "review"}) == 10
    assert full_at(mining={"verdicts": "review"}, verdict_loss={"full_at": 1}) == 1
    plain = StudyConfig.model_validate({"mining": {"verdicts": "review"}})
    assert arm("ours+instance", study=plain, kind="features").model.verdict_loss.full_at is None
