from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.trainings import feature_bags, small_config, trained_weights, weights_of

from hardmil.bags.bag import Bag
from hardmil.config.model import RankLossConfig, ResolvedModelConfig
from hardmil.device import Device
from hardmil.errors import FoldError, TrainingError
from hardmil.mil import steps, training
from hardmil.mil.bag_output import BagOutput
from hardmil.mil.batches import PackedBatch, pack
from hardmil.mil.inference import score_bags
from hardmil.mil.network import BagClassifier, FeatureNetwork
from hardmil.mil.training import fit

CPU = Device("cpu", bfloat16=False)


def _trained(bags: Sequence[Bag] | None = None, *, seed: int = 0, **settings: Any) -> dict[str, list[Any]]:
    return trained_weights(bags or feature_bags(), config=small_config(**settings), seed=seed)


class _Spy:
    """Packs, and remembers what: training batches with gradients, validation without."""

    def __init__(self) -> None:
        self.steps: list[list[Bag]] = []
        self.watched: list[str] = []

    def __call__(self, bags: Sequence[Bag], *, device: str) -> PackedBatch:
        if torch.is_grad_enabled():
            self.steps.append(list(bags))
        else:
            self.watched += [bag.slide_id for bag in bags]
        return pack(bags, device=device)

    def names(self) -> list[str]:
        return [bag.slide_id for step in self.steps for bag in step]


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> _Spy:
    found = _Spy()
    monkeypatch.setattr(training, "pack", found)
    monkeypatch.setattr(steps, "pack", found)
    return found


def test_same_seed_same_weights_and_other_seed_others():
    torch.manual_seed(1)
    first = _trained(seed=3)
    torch.manual_seed(2)
    assert _trained(seed=3) == first
    assert _trained(seed=4) != first


def _ranked(**rank_loss: float) -> ResolvedModelConfig:
    return small_config().model_copy(update={"rank_loss": RankLossConfig.model_validate(rank_loss)})


def test_the_queue_of_the_rank_loss_begins_empty_in_each_training(monkeypatch: pytest.MonkeyPatch):
    """Losses of two epochs of single bags are those of a loop that keeps the highest logits itself."""
    plain, seen, ranks = training.training_loss, list[tuple[int, float]](), list[tuple[float, float]]()

    def loss(output: BagOutput, **rest: Any) -> torch.Tensor:
        value, label = plain(output, **rest), int(rest["batch"].labels.item())
        highest = output.instance_logit.max().item()
        others = [logit for other, logit in seen if other != label][-3:]
        gaps = [(2 * label - 1) * (highest - other) for other in others]
        expected = sum(max(0.0, 1.5 - gap) for gap in gaps) / max(1, len(gaps))
        ranks.append((value.item() - plain(output, **{**rest, "queue": None}).item(), 0.7 * expected))
        seen.append((label, highest))
        return value

    monkeypatch.setattr(training, "training_loss", loss)
    first = weights_of(fit(feature_bags(), config=_ranked(weight=0.7, margin=1.5, queue=3), device=CPU))
    found, expected = zip(*ranks, strict=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert max(found) > 0
    seen.clear()
    assert (
        weights_of(fit(feature_bags(), config=_ranked(weight=0.7, margin=1.5, queue=3), device=CPU)) == first
    )
    assert first != _trained()


def test_a_rank_loss_of_weight_0_changes_nothing():
    assert weights_of(fit(feature_bags(), config=_ranked(weight=0, margin=1.5), device=CPU)) == _trained()


def test_it_learns_separable_classes():
    bags, losses = feature_bags(), list[float]()
    network = fit(
        bags, config=small_config(epochs=12), device=CPU, on_epoch=lambda epoch, loss: losses.append(loss)
    )
    assert losses[-1] < 0.2 * losses[0]
    predicted = [score.bag_score > 0.5 for score in score_bags(network, bags)]
    assert predicted == [bag.label == 1 for bag in bags]
    assert not network.training


def test_bfloat16_follows_float32():
    def losses(bfloat16: bool) -> list[float]:
        found: list[float] = []
        fit(
            feature_bags(),
            config=small_config(epochs=12, dropout=0.0),
            device=Device("cpu", bfloat16),
            on_epoch=lambda epoch, loss: found.append(loss),
        )
        return found

    np.testing.assert_allclose(losses(True), losses(False), atol=0.05)


def test_epochs_are_counted_and_their_loss_is_the_mean_over_bags(monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[int, float]] = []
    steps: list[tuple[float, int]] = []
    plain = training.training_loss

    def loss(output: Any, **rest: Any) -> torch.Tensor:
        value = plain(output, **rest)
        steps.append((value.item(), rest["batch"].n_bags))
        return value

    monkeypatch.setattr(training, "training_loss", loss)
    config = small_config(epochs=2, bags_per_step=3)
    fit(feature_bags(8), config=config, device=CPU, on_epoch=lambda *found: seen.append(found))
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert [n for _, n in steps] == [3, 3, 2, 3, 3, 2]
    for epoch, mean in seen:
        part = steps[3 * epoch : 3 * epoch + 3]
        assert mean == pytest.approx(sum(value * n for value, n in part) / 8, rel=1e-6)


def test_every_bag_comes_once_an_epoch_in_another_order(spy: _Spy):
    fit(feature_bags(), config=small_config(bags_per_step=4), device=CPU)
    names, expected = spy.names(), sorted(bag.slide_id for bag in feature_bags())
    epochs = [names[:16], names[16:32], names[32:]]
    assert [sorted(epoch) for epoch in epochs] == [expected] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [len(step) for step in spy.steps] == [4] * 12


def test_the_epoch_of_lowest_training_loss_is_kept():
    bags, losses = feature_bags(shift=0.3), list[float]()
    config = small_config(epochs=8, lr=0.3)
    kept = fit(bags, config=config, device=CPU, on_epoch=lambda epoch, loss: losses.append(loss))
    best = int(np.argmin(losses))
    assert 0 < best < 7, losses
    assert weights_of(kept) == _trained(bags, epochs=best + 1, lr=0.3, select="last")
    assert weights_of(kept) != _trained(bags, epochs=8, lr=0.3, select="last")


def _scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> dict[str, list[Any]]:
    script = iter(losses)
    monkeypatch.setattr(training, "_validation_loss", lambda *_, **__: next(script))
    return _trained(epochs=len(losses), select="validation")


def test_the_epoch_of_lowest_validation_loss_is_kept(monkeypatch: pytest.MonkeyPatch):
    kept = _scripted(monkeypatch, [3.0, 1.0, 2.0, 1.0])
    assert kept == _scripted(monkeypatch, [3.0, 1.0])
    assert kept != _scripted(monkeypatch, [3.0, 1.0, 0.5])


def test_validation_loss_is_that_of_the_held_out_bags(monkeypatch: pytest.MonkeyPatch, spy: _Spy):
    values: list[float] = []
    plain: Callable[..., float] = training._validation_loss

    def watch(*given: Any, **rest: Any) -> float:
        values.append(plain(*given, **rest))
        return values[-1]

    monkeypatch.setattr(training, "_validation_loss", watch)
    bags = feature_bags()
    network = fit(bags, config=small_config(epochs=1, select="validation"), device=CPU)
    held_out = [bag for bag in bags if bag.slide_id in spy.watched]
    terms = [
        -np.log(score.bag_score if bag.label else 1 - score.bag_score)
        for bag, score in zip(held_out, score_bags(network, held_out), strict=True)
    ]
    assert values == [pytest.approx(np.mean(terms), rel=1e-5)]


@pytest.mark.parametrize(("share", "n_held_out"), [(0.25, 8), (0.5, 16), (0.9, 16)])
def test_validation_cases_never_enter_a_gradient_step(spy: _Spy, share: float, n_held_out: int):
    """There are two folds at least: half of the cases is the most that can be held out."""
    bags = [
        Bag(b.slide_id, f"c{i // 4}", b.label, b.instances, b.coords, 0)
        for i, b in enumerate(feature_bags(32))
    ]
    fit(bags, config=small_config(select="validation", validation_share=share), device=CPU)
    cases = {bag.slide_id: bag.case_id for bag in bags}
    trained, watched = set(spy.names()), set(spy.watched)
    assert trained | watched == set(cases)
    assert not {cases[name] for name in trained} & {cases[name] for name in watched}
    assert len(watched) == n_held_out


def test_extra_bags_are_drawn_for_the_training_slides_only(spy: _Spy):
    extras, bags = _Extra(), feature_bags()
    fit(bags, config=small_config(epochs=1, select="validation"), device=CPU, extras=extras)
    assert extras.slides == {bag.slide_id for bag in bags} - set(spy.watched)
    assert "extra-0" in spy.names()


def test_validation_that_cannot_be_held_out_is_an_error():
    with pytest.raises(FoldError, match=r"positive class: 1 cases .* training\.select"):
        fit(feature_bags(6, positives=1), config=small_config(select="validation"), device=CPU)


def test_balance_by_loss_weighs_both_classes_equally(monkeypatch: pytest.MonkeyPatch):
    given: list[list[float]] = []
    plain = training.training_loss

    def loss(output: Any, **rest: Any) -> torch.Tensor:
        given.append(rest["class_weight"].tolist())
        return plain(output, **rest)

    monkeypatch.setattr(training, "training_loss", loss)
    fit(feature_bags(8, positives=2), config=small_config(epochs=1, balance="loss"), device=CPU)
    assert given[0] == pytest.approx([8 / 12, 8 / 4])
    given.clear()
    fit(feature_bags(8, positives=2), config=small_config(epochs=1), device=CPU)
    assert given[0] == [1, 1]


def test_balance_by_sampler_draws_both_classes_as_often(spy: _Spy):
    fit(feature_bags(40, positives=4), config=small_config(epochs=20, balance="sampler"), device=CPU)
    labels = [bag.label for step in spy.steps for bag in step]
    assert len(labels) == 800
    assert 350 < sum(labels) < 450


def test_large_bags_are_sampled_in_training_and_complete_in_prediction(spy: _Spy):
    bags = feature_bags(4, size=20)
    network = fit(bags, config=small_config(max_instances=7, epochs=4), device=CPU)
    by_id = {bag.slide_id: bag for bag in bags}
    subsets: set[tuple[int, ...]] = set()
    for step in spy.steps:
        for thin in step:
            whole = by_id[thin.slide_id].instances.tolist()
            places = [whole.index(row) for row in thin.instances.tolist()]
            assert len(set(places)) == len(thin) == 7
            assert places == sorted(places)
            subsets.add(tuple(places))
    assert len(subsets) == 16
    assert [len(score.attention) for score in score_bags(network, bags)] == [len(bag) for bag in bags]


def test_weights_stay_with_their_instances_in_a_subset_of_a_bag(spy: _Spy):
    """A step that takes 7 of 20 instances weighs those that were named, wherever they are now."""
    named = np.where(np.arange(20) == 19, 7, 1).astype(np.float32)
    bags = [replace(bag.take(np.arange(20)), instance_weights=named) for bag in feature_bags(4, size=20)]
    fit(bags, config=small_config(max_instances=7, epochs=6), device=CPU)
    last = {bag.slide_id: bag.instances[19].tolist() for bag in bags}
    found: list[float] = []
    for bag in (bag for step in spy.steps for bag in step):
        assert bag.instance_weights is not None
        is_named = (bag.instances == last[bag.slide_id]).all(axis=1)
        np.testing.assert_array_equal(bag.instance_weights, np.where(is_named, 7, 1))
        found += bag.instance_weights.tolist()
    assert set(found) == {1.0, 7.0}


class _Extra:
    """Another bag each epoch."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def draw(self, epoch: int) -> list[Bag]:
        self.epochs.append(epoch)
        one = feature_bags(1)[0]
        return [Bag(f"extra-{epoch}", "extra", 0, one.instances, one.coords, 0)]

    def mix(self, bag: Bag, *, epoch: int) -> Bag:
        return bag

    def cases(self) -> set[str]:
        return {"extra"}

    def fingerprint(self) -> str:
        return "extra"

    def within(self, slide_ids: set[str]) -> "_Extra | None":
        self.slides = slide_ids
        return self


def test_extra_bags_are_added_each_epoch_and_do_not_change_standardisation(spy: _Spy):
    extras, bags = _Extra(), feature_bags(6)
    network = fit(bags, config=small_config(), device=CPU, extras=extras)
    assert extras.epochs == [0, 1, 2]
    names = spy.names()
    for epoch in range(3):
        joined = names[7 * epoch : 7 * epoch + 7]
        assert sorted(joined) == sorted([*(bag.slide_id for bag in bags), f"extra-{epoch}"])
    _assert_standardised_by(network, bags)


def _assert_standardised_by(network: BagClassifier, bags: Sequence[Bag]) -> None:
    together = np.concatenate([bag.instances.astype(np.float64) for bag in bags])
    assert isinstance(network.embed, FeatureNetwork)
    np.testing.assert_allclose(network.embed.mean, together.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(network.embed.scale, together.std(axis=0), rtol=1e-6)


def test_features_are_standardised_by_the_training_instances():
    bags = feature_bags()
    _assert_standardised_by(fit(bags, config=small_config(epochs=1), device=CPU), bags)
    halves = [Bag(b.slide_id, b.case_id, b.label, b.instances.astype(np.float16), b.coords, 0) for b in bags]
    _assert_standardised_by(fit(halves, config=small_config(epochs=1), device=CPU), halves)


def test_a_feature_that_never_changes_is_only_shifted():
    bags = [Bag(b.slide_id, b.case_id, b.label, b.instances.copy(), b.coords, 0) for b in feature_bags()]
    for bag in bags:
        bag.instances[:, 3] = 5.0
    network = fit(bags, config=small_config(epochs=1), device=CPU)
    assert isinstance(network.embed, FeatureNetwork)
    assert (network.embed.mean[3].item(), network.embed.scale[3].item()) == (5.0, 1.0)


def test_it_continues_from_another_network():
    first = fit(feature_bags(), config=small_config(), device=CPU)
    others = feature_bags(6, shift=-2.0)
    second = fit(others, config=small_config(epochs=1, lr=1e-9), device=CPU, start=first)
    _assert_standardised_by(second, feature_bags())
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=1e-6)
    assert weights_of(first) == _trained(), "the network gone on from is not itself trained on"


def test_pixels_are_turned_in_training():
    rng = np.random.default_rng(0)
    bags = [
        Bag(
            f"s{i}",
            f"c{i}",
            i % 2,
            rng.integers(0, 256, (3, 24, 24, 3), dtype=np.uint8),
            np.zeros((3, 2), np.int64),
            24,
        )
        for i in range(4)
    ]
    turned, again = _trained(bags, epochs=1), _trained(bags, epochs=1)
    assert turned == again
    assert turned != _trained(bags, epochs=1, augment=False)
    before = [bag.instances.copy() for bag in bags]
    _trained(bags, epochs=1)
    for bag, pixels in zip(bags, before, strict=True):
        np.testing.assert_array_equal(bag.instances, pixels)


def test_a_loss_of_nan_stops_training():
    message = r"epoch \d, slide s\d+: the loss is (nan|inf), .* of this slide .* lower training\.lr"
    with pytest.raises(TrainingError, match=message):
        fit(feature_bags(), config=small_config(lr=1e25), device=CPU)


def test_the_slide_of_a_loss_of_nan_is_named(monkeypatch: pytest.MonkeyPatch):
    """Its features are finite, but a training of one step goes wrong with it."""
    mean, scale = np.zeros(4, np.float32), np.full(4, 1e-30, np.float32)
    monkeypatch.setattr(training, "_standardise", lambda net, _: net.standardise_by(mean=mean, scale=scale))
    bags = feature_bags()
    broken = replace(bags[2], slide_id="broken", instances=np.full_like(bags[2].instances, 1e15))
    tame = [replace(bag, instances=bag.instances * np.float32(1e-30)) for bag in bags]
    with pytest.raises(TrainingError, match="epoch 1, slide broken: the loss is"):
        fit([*tame[:2], broken, *tame[3:]], config=small_config(lr=1e-3, epochs=1), device=CPU)


def test_a_validation_loss_of_nan_stops_training(monkeypatch: pytest.MonkeyPatch):
    plain: Callable[..., torch.Tensor] = training.training_loss

    def broken(output: Any, **rest: Any) -> torch.Tensor:
        loss = plain(output, **rest)
        return loss if loss.requires_grad else loss * float("nan")

    monkeypatch.setattr(training, "training_loss", broken)
    with pytest.raises(TrainingError, match=r"epoch 1, slide s\d+: the loss is nan"):
        fit(feature_bags(), config=small_config(epochs=1, select="validation"), device=CPU)


def test_the_callers_random_numbers_go_on():
    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)
    fit(feature_bags(4), config=small_config(epochs=1), device=CPU)
    assert torch.rand(3).tolist() == expected
