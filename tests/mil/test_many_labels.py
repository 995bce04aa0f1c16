"""Networks whose bags may have several classes: independent heads on one embedding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tests.support.many_labels import MULTI, lesions_of, multi_bags, multi_score
from tests.support.trainings import small_config

from hardmil.config.evaluation import CalibrationMethod
from hardmil.config.model import ResolvedModelConfig
from hardmil.config.task import TWO_CLASSES
from hardmil.device import Device
from hardmil.errors import BagError, ConfigError
from hardmil.mil.bag_output import BagOutput
from hardmil.mil.batches import pack
from hardmil.mil.class_calibration import ClassCalibration, fit_class_calibration
from hardmil.mil.class_metrics import class_metrics, predicted_classes
from hardmil.mil.class_scores import class_scores, mean_logits, score_of_bag, with_classes
from hardmil.mil.inference import score_bags
from hardmil.mil.losses import training_loss
from hardmil.mil.steps import steps_of_epoch
from hardmil.mil.training import class_weights, fit

pytestmark = pytest.mark.slow

CPU = Device("cpu", bfloat16=False)


def _config(**training: object) -> ResolvedModelConfig:
    return small_config(**training).model_copy(update={"task": MULTI})


def test_heads_are_independent_and_each_finds_its_own_lesion():
    """Bags of several classes score high for each of them, and each branch attends to its own lesion."""
    bags = multi_bags(96)
    network = fit(bags[:48], config=_config(epochs=30), device=CPU)
    held_out = bags[48:]
    scores = score_bags(network, held_out)
    of_classes = np.stack([one.class_scores for one in scores if one.class_scores is not None])
    answers = MULTI.answers(np.array([bag.label for bag in held_out]))
    assert ((of_classes > 0.5) == answers).mean() >= 0.95
    several = [i for i, bag in enumerate(held_out) if bag.label.bit_count() >= 2]
    assert np.mean([of_classes[i][answers[i]].min() > 0.5 for i in several]) >= 0.9
    for k in range(3):
        found: list[float] = []
        for bag, score in zip(held_out, scores, strict=True):
            if MULTI.is_yes(bag.label, branch=k):
                is_lesion = np.isin(np.arange(len(bag)), lesions_of(k))
                found.append(float(roc_auc_score(is_lesion, score.branches[k].attention)))
        assert np.mean(found) >= 0.9


def _output(logits: np.ndarray, *, of_instances: np.ndarray) -> BagOutput:
    instance_logit = torch.from_numpy(of_instances).float()
    return BagOutput(
        bag_logit=torch.from_numpy(logits).float(),
        attention_logit=torch.zeros_like(instance_logit),
        attention=torch.zeros_like(instance_logit),
        instance_logit=instance_logit,
        weights=None,
    )


@pytest.mark.parametrize("balance", ["none", "loss"])
def test_the_loss_is_the_sum_of_the_losses_of_two_classes(balance: str):
    bags = multi_bags(10)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(10, 3))
    of_instances = rng.normal(size=(sum(map(len, bags)), 3))
    config = _config(balance=balance)
    losses = {"instance_loss": config.instance_loss.model_copy(update={"beta": 0.7})}
    config = config.model_copy(update=losses)
    batch = pack(bags)
    found = training_loss(
        _output(logits, of_instances=of_instances),
        batch=batch,
        config=config,
        class_weight=class_weights(bags, config=config),
    )
    of_two = config.model_copy(update={"task": TWO_CLASSES})
    expected = 0.0
    for k in range(3):
        answers = [int(MULTI.is_yes(bag.label, branch=k)) for bag in bags]
        counts = np.bincount(answers, minlength=2)
        weights = len(bags) / (2 * counts) if balance == "loss" else np.ones(2)
        expected += float(
            training_loss(
                _output(logits[:, k], of_instances=of_instances[:, k]),
                batch=batch.of_branch(k, task=MULTI),
                config=of_two,
                class_weight=torch.tensor(weights, dtype=torch.float32),
            )
        )
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_sampler_draws_both_answers_of_a_rare_class_alike():
    """One bag in ten has class a, and all have b or not in turn."""
    bags = [bag for bag in multi_bags(200) if bag.label in (0, 2)][:40] + [
        bag for bag in multi_bags(40) if bag.label == 1
    ][:4]
    config = _config(balance="sampler")
    generator = torch.Generator().manual_seed(0)
    drawn = [
        step.bags[0].label
        for _ in range(20)
        for step in steps_of_epoch(bags, mix=None, config=config, generator=generator)
    ]
    share = np.mean([label == 1 for label in drawn])
    assert 0.2 < share < 0.3, "its weight is a third of a half, and the third class is alike in all"


def test_scores_are_logistic_functions_and_do_not_sum_to_one():
    logits = np.array([0.0, 5.0, -800.0])
    scores = class_scores(logits, task=MULTI)
    np.testing.assert_allclose(scores, [0.5, 1 / (1 + np.exp(-5)), 0.0], atol=1e-12)
    likely = class_scores(np.array([1.0, -2.0, 3.0]), task=MULTI)
    np.testing.assert_allclose(mean_logits([likely, likely], task=MULTI), [1.0, -2.0, 3.0])
    assert predicted_classes(np.stack([scores, likely]), task=MULTI).tolist() == [0b010, 0b101]
    assert score_of_bag(likely, task=MULTI) == likely[2]


def test_the_shown_branch_is_that_of_the_highest_score():
    bag = multi_bags(1)[0]
    branches = multi_score(bag, (0.1, 0.1, 0.1)).branches
    whole = with_classes(branches, logits=np.array([1.0, 2.0, -1.0]), task=MULTI)
    assert whole.bag_score == pytest.approx(1 / (1 + np.exp(-2)))
    assert whole.attention.tolist() == branches[1].attention.tolist()
    assert [one.bag_score for one in whole.branches] == pytest.approx(whole.class_scores)


def test_accuracy_is_of_whole_labels_and_the_rest_are_means_over_classes():
    scores = np.array([[0.9, 0.1, 0.1], [0.9, 0.9, 0.1], [0.2, 0.9, 0.8], [0.1, 0.1, 0.6]])
    found = class_metrics(np.array([0b001, 0b001, 0b110, 0b000]), scores, task=MULTI)
    assert found.accuracy == 0.5
    assert found.recall == 1
    assert found.fpr == pytest.approx((0 + 1 / 3 + 1 / 3) / 3)
    assert found.auc == pytest.approx((1 + (2.5 / 3) + 1) / 3)


def _overconfident(
    n: int, *, times: float, bias: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (n, 3))
    yes = rng.random((n, 3)) < 1 / (1 + np.exp(-logits))
    return yes @ (1 << np.arange(3)), 1 / (1 + np.exp(-(logits - np.array(bias)) * times))


@pytest.mark.parametrize(("method", "bias"), [("temperature", (0, 0, 0)), ("vector", (0.5, 0, -1))])
def test_calibration_undoes_what_was_done_to_the_logits(
    method: CalibrationMethod, bias: tuple[float, float, float]
):
    labels, scores = _overconfident(4000, times=3, bias=bias)
    fitted = fit_class_calibration(labels, scores, method=method, task=MULTI)
    np.testing.assert_allclose(fitted.weights, 1 / 3, rtol=0.1)
    np.testing.assert_allclose(fitted.biases, bias, atol=0.1)
    chances = fitted.probabilities(scores)
    np.testing.assert_allclose(chances.mean(axis=0), MULTI.answers(labels).mean(axis=0), atol=0.02)
    assert ClassCalibration.model_validate_json(fitted.model_dump_json()) == fitted


def test_a_calibration_needs_bags_with_and_without_each_class():
    labels, scores = np.array([0b011, 0b001]), np.full((2, 3), 0.5)
    with pytest.raises(BagError, match=r"needs bags of all classes; found none of c, not a; add slides"):
        fit_class_calibration(labels, scores, method="temperature", task=MULTI)
    with pytest.raises(ConfigError, match=r"isotonic, which is not for 3 classes"):
        fit_class_calibration(labels, scores, method="isotonic", task=MULTI)


def test_a_label_beyond_the_classes_is_refused():
    bags = [*multi_bags(8), replace(multi_bags(1)[0], label=8)]
    with pytest.raises(BagError, match=r"slide s0: label 8; expected 0 to 7 in training with 3 classes"):
        fit(bags, config=_config(epochs=1), device=CPU)
