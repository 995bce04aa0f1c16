from pathlib import Path

import pytest
import yaml

from hardmil.config.evaluation import EvaluationConfig
from hardmil.config.mining import MiningConfig
from hardmil.config.model import TrainingConfig
from hardmil.config.patches import PatchConfig
from hardmil.config.study import StudyConfig
from hardmil.config.study_file import commented_yaml, parse_study, put_overrides, read_study
from hardmil.errors import ConfigError


@pytest.mark.parametrize(
    "config",
    [
        StudyConfig(),
        StudyConfig(
            features="a b: c",
            positive="0",
            seed=12,
            patches=PatchConfig(um_per_px=None),
            training=TrainingConfig(lr=5e-5, augment=False),
            mining=MiningConfig(threshold="sensitivity=0.95", source="out-of-fold", n_bags=3),
            evaluation=EvaluationConfig(arms=("ours", "abmil+fmb-equal-oof@random"), splits="splits"),
        ),
    ],
)
def test_the_commented_file_reads_back_equal(config: StudyConfig, tmp_path: Path):
    text = commented_yaml(config)
    (tmp_path / "study.yaml").write_text(text)
    assert read_study(tmp_path) == (config, tmp_path)
    assert read_study(tmp_path / "study.yaml") == (config, tmp_path)


def test_the_commented_file_has_every_setting_under_its_comment():
    text = commented_yaml(StudyConfig())
    expected = StudyConfig().model_dump(mode="json")
    # These follow the encoder; they stand in a comment.
    assert f"# size_px: {expected['patches'].pop('size_px')}" in text
    assert f"# um_per_px: {expected['patches'].pop('um_per_px')}" in text
    assert yaml.safe_load(text) == expected
    lines = text.splitlines()
    at = lines.index("  n_clusters: 4")
    assert lines[at - 1].startswith("  # K-means clusters of fmb")
    settings = [i for i, line in enumerate(lines) if ": " in line and not line.lstrip().startswith("#")]
    assert len(settings) > 40
    assert all(lines[i - 1].lstrip().startswith("#") for i in settings)


def test_overrides_replace_keys(tmp_path: Path):
    (tmp_path / "study.yaml").write_text("seed: 3\nmining: {n_clusters: 2, use: mb}\n")
    overrides = [
        "mining.n_clusters=8",
        "evaluation.arms=[ours, abmil]",
        "patches.um_per_px=null",
        "training.lr=5e-5",
    ]
    config, _ = read_study(tmp_path, overrides=overrides)
    assert (config.seed, config.mining.use, config.mining.n_clusters) == (3, "mb", 8)
    assert config.evaluation.arms == ("ours", "abmil")
    assert config.patches.um_per_px is None
    assert config.training.lr == 5e-5


def test_an_empty_study_is_all_defaults(tmp_path: Path):
    (tmp_path / "study.yaml").write_text("# nothing\n")
    assert read_study(tmp_path)[0] == StudyConfig()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"mining": {"n_cluster": 3}},
            r"x: there is no key mining.n_cluster; did you mean mining.n_clusters\?",
        ),
        ({"sed": 3}, r"x: there is no key sed; did you mean seed\?"),
        ({"zzzzzzzz": 3}, "x: there is no key zzzzzzzz$"),
        ({"mining": {"n_clusters": 0}}, "x: mining.n_clusters: found 0; .*greater than or equal to 1"),
        (
            {"mining": {"use": "smb"}},
            "x: mining.use: found 'smb'; Input should be 'none', 'sb', 'mb', 'fmb', 'inject' or 'weigh'",
        ),
        ({"mining": {"threshold": "high"}}, "x: mining.threshold: found 'high'; a threshold is a score"),
        ({"mining": {"threshold": [0.5]}}, r"x: mining.threshold: found \[0.5\]; "),
        (
            {"evaluation": {"arms": ["ours", 3]}},
            "x: evaluation.arms: found 3; Input should be a valid string",
        ),
        ({"mining": "fmb"}, "x: mining: found 'fmb'; "),
        ({"training": None}, "x: training: found None; "),
    ],
)
def test_wrong_keys_and_values_are_named(content: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        parse_study(content, source="x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mining.n_clusters", "--set mining.n_clusters: expected KEY=VALUE"),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("seed.x=3", "--set seed.x=3: seed is "),
        ("mining.n_bags=[1", "mining.n_bags=.1: .*YAML"),
    ],
)
def test_unusable_overrides_are_refused(override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        put_overrides({"seed": 1}, [override])


def test_files_that_are_not_a_study(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"study\.yaml: no such file; .*hardmil init DIR"):
        read_study(tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text("a: [1\n")
    with pytest.raises(ConfigError, match=r"study\.yaml: .*YAML"):
        read_study(path)
    path.write_bytes(b"a: \xe4\n")
    with pytest.raises(ConfigError, match=r"study\.yaml: .*YAML"):
        read_study(path)
    path.write_text("just words\n")
    with pytest.raises(ConfigError, match="found str"):
        read_study(path)


def test_a_numeric_label_needs_no_quotes() -> None:
    assert parse_study({"positive": 1}, source="x").positive == "1"


@pytest.mark.parametrize("label", ["no", "No", "yes", "on", "off", "n"])
def test_a_label_may_be_a_word_that_old_yaml_takes_for_a_boolean(tmp_path: Path, label: str):
    (tmp_path / "study.yaml").write_text(f"positive: {label}\ntraining: {{augment: no}}\n")
    config, _ = read_study(tmp_path)
    assert (config.positive, config.training.augment) == (label, False)
    assert read_study(tmp_path, overrides=["positive=off"])[0].positive == "off"
    (tmp_path / "study.yaml").write_text(commented_yaml(config))
    assert read_study(tmp_path)[0] == config


def test_a_label_that_yaml_takes_for_a_boolean_needs_quotes(tmp_path: Path):
    (tmp_path / "study.yaml").write_text("positive: FALSE\n")
    with pytest.raises(
        ConfigError, match=r'positive: found False; YAML reads this .*in quotes, such as "FALSE"'
    ):
        read_study(tmp_path)
    (tmp_path / "study.yaml").write_text('positive: "FALSE"\n')
    assert read_study(tmp_path)[0].positive == "FALSE"


def test_settings_that_do_not_fit_each_other_are_not_shown_with_all_others():
    content = {"classes": ["a", "b", "c"], "negative": "d"}
    with pytest.raises(
        ConfigError, match=r"^my\.yaml: negative is 'd'; expected one of the classes, a, b, c$"
    ):
        parse_study(content, source="my.yaml")
