"""Why the negative class has no branch: attention and instance logits with and without one.

    hardmil demo --classes 3 --output DIR
    python benchmarks/negative_class.py --study DIR     # prints the table of docs/method.md

Trains `ours` on the training slides of the demo, two networks each, and looks at its held-out slides:
accuracy, and the AUC of attention and of instance logits for the lesion patches of a slide, in the branch of
its class.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.split_files import read_splits
from hardmil.config.model import ResolvedModelConfig, resolve_config
from hardmil.config.study import model_config
from hardmil.config.task import TaskConfig
from hardmil.evaluation.cohort import Cohort, study_cohort
from hardmil.evaluation.truth import LESION
from hardmil.metrics import binary_metrics
from hardmil.mil.class_scores import branch_of
from hardmil.mil.inference import score_bags
from hardmil.mil.training import fit
from hardmil.preprocessing.study_folder import open_study, read_bags

SEEDS = range(2)
BETAS = (0.0, 0.5)


def measure(
    training: Sequence[Bag], test: Sequence[Bag], *, config: ResolvedModelConfig, cohort: Cohort, seed: int
) -> list[float]:
    """Accuracy, and of each lesion the AUC of attention, then of each the AUC of instance logits."""
    task = config.task
    scores = score_bags(fit(training, config=config, seed=seed), test)
    right = [np.argmax(score.class_scores) == bag.label for score, bag in zip(scores, test, strict=True)]
    found = [float(np.mean(right))]
    for name in ("attention", "instance_logit"):
        for label in (1, 2):
            values: list[float] = []
            for score, bag in zip(scores, test, strict=True):
                if bag.label == label:
                    of_patches = getattr(branch_of(score, label, task=task), name).astype(np.float64)
                    is_lesion = (cohort.truth[bag.slide_id] == LESION).astype(np.int64)
                    values.append(binary_metrics(is_lesion, 1 / (1 + np.exp(-of_patches))).auc)
            found.append(float(np.nanmean(values)))
    return found


def main() -> None:
    """Read the arguments, train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="folder of the demo")
    study = open_study(parser.parse_args().study)
    bags = read_bags(study, quiet=True).bags
    cohort, names = study_cohort(study, bags=bags), study.slide_table.classes
    (fold,) = read_splits(study.folder, [bag.slide_id for bag in bags])
    training, test = ([bags[int(i)] for i in part] for part in (fold.train, fold.test))
    base = resolve_config(model_config(study.config), kind="features")
    print("| negative class | instance loss | accuracy | attention, A and B | instance logits, A and B |")
    print("|---|---|---|---|---|")
    for what, negative in (("a branch of its own", None), ("logit 0", names[0])):
        for beta in BETAS:
            task = TaskConfig(names=names, negative=negative)
            loss = base.instance_loss.model_copy(update={"beta": beta})
            config = base.model_copy(update={"task": task, "instance_loss": loss})
            found = [measure(training, test, config=config, cohort=cohort, seed=seed) for seed in SEEDS]
            accuracy, *aucs = np.mean(found, axis=0).tolist()
            shown = [f"{value:.2f}" for value in aucs]
            cells = (what, beta or "-", f"{accuracy:.3f}", ", ".join(shown[:2]), ", ".join(shown[2:]))
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
