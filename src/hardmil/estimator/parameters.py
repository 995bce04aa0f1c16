"""The parameters of a classifier as the settings of a study."""

from collections.abc import Mapping

from hardmil.config.study import StudyConfig
from hardmil.config.study_file import parse_study

NETWORK = ("embedding_dim", "clip")
TRAINING = ("epochs", "lr", "weight_decay", "bags_per_step", "balance", "max_instances")
MINING = ("cluster_weights", "n_clusters", "inner_folds", "rounds", "retrain", "inject_into")


def study_of(parameters: Mapping[str, object]) -> StudyConfig:
    """The study with these parameters of a classifier.

    Raises:
        ConfigError: If a parameter has no such value.
    """
    content = {
        "patches": {"equalise": parameters["equalise"]},
        "network": {name: parameters[name] for name in NETWORK},
        "pooling": {"kind": parameters["pooling"], "lam": parameters["lam"]},
        "training": {name: parameters[name] for name in TRAINING},
        "instance_loss": {"beta": parameters["instance_loss"]},
        "mining": {
            "use": parameters["mining"],
            "source": parameters["mining_source"],
            **{name: parameters[name] for name in MINING},
        },
    }
    return parse_study(content, source="MILClassifier")
