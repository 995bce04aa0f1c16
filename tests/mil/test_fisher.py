import builtins
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

from hardmil.bags.bag import Bag
from hardmil.config.evaluation import FisherConfig
from hardmil.errors import BagError, ConfigError
from hardmil.mil.fisher import _fisher_vector, describe, fit_fisher, score_fisher

SMALL = FisherConfig(n_dims=6, n_modes=4, n_reduced=3)


def as_bag(instances: np.ndarray, *, name: str, label: int) -> Bag:
    return Bag(name, name, label, instances, np.zeros((len(instances), 2), np.int64), 0)


def feature_bags(n: int, *, seed: int = 0) -> list[Bag]:
    """A tenth of the instances of a positive bag come from elsewhere; sizes differ, features are float16."""
    rng = np.random.default_rng(seed)
    bags: list[Bag] = []
    for i in range(n):
        features = rng.normal(size=(40 + 3 * i, 8))
        if i % 2:
            features[: len(features) // 10, :2] += 5
        bags.append(as_bag(features.astype(np.float16), name=f"s{seed}-{i}", label=i % 2))
    return bags


def pixel_bags(n: int, *, seed: int = 0) -> list[Bag]:
    """Patches of noise, 20 px; in a positive bag one in five is striped."""
    rng = np.random.default_rng(seed)
    bags: list[Bag] = []
    for i in range(n):
        patches = rng.normal(128, 30, (15, 20, 20, 3))
        if i % 2:
            patches[:3] += 80 * np.sin(np.arange(20) * 1.5)[None, None, :, None]
        bags.append(as_bag(patches.clip(0, 255).astype(np.uint8), name=f"p{seed}-{i}", label=i % 2))
    return bags


def plain_fisher_vector(mixture: GaussianMixture, descriptors: np.ndarray) -> np.ndarray:
    """Perronnin et al. 2010, Eq. 4, 5, and by weights Sanchez et al. 2013, Eq. 16; in plain loops."""
    weights, means, variances = mixture.weights_, mixture.means_, mixture.covariances_
    n_modes, n_dims = means.shape
    by_weight, by_mean, by_variance = np.zeros(n_modes), np.zeros(means.shape), np.zeros(means.shape)
    for x in descriptors:
        density = [
            weights[k]
            * np.prod(
                [
                    np.exp(-((x[d] - means[k, d]) ** 2) / (2 * variances[k, d]))
                    / np.sqrt(2 * np.pi * variances[k, d])
                    for d in range(n_dims)
                ]
            )
            for k in range(n_modes)
        ]
        for k in range(n_modes):
            posterior = density[k] / sum(density)
            by_weight[k] += (posterior - weights[k]) / np.sqrt(weights[k])
            for d in range(n_dims):
                u = (x[d] - means[k, d]) / np.sqrt(variances[k, d])
                by_mean[k, d] += posterior * u / np.sqrt(weights[k])
                # scikit-image has the gradient by the variance the other way round; nothing here minds a sign
                by_variance[k, d] += posterior * (1 - u**2) / np.sqrt(2 * weights[k])
    gradient = np.concatenate([by_weight, by_mean.ravel(), by_variance.ravel()]) / len(descriptors)
    rooted = np.sign(gradient) * np.sqrt(np.abs(gradient))
    return rooted / np.sqrt((rooted**2).sum())


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 7), n_modes=st.integers(2, 4))
def test_the_fisher_vector_is_that_of_the_formula(seed: int, n: int, n_modes: int) -> None:
    rng = np.random.default_rng(seed)
    mixture = GaussianMixture(n_modes, covariance_type="diag", random_state=seed).fit(
        rng.normal(size=(200, 3))
    )
    descriptors = rng.normal(size=(n, 3))
    assert _fisher_vector(mixture, descriptors) == pytest.approx(
        plain_fisher_vector(mixture, descriptors), abs=1e-7
    )


@pytest.mark.parametrize("make", [feature_bags, pixel_bags])
def test_separable_classes_are_separated(make: object) -> None:
    train, test = make(16), make(20, seed=1)  # type: ignore[operator]
    model = fit_fisher(train, config=SMALL, seed=0)
    scores = score_fisher(model, test)
    assert ((scores > 0) & (scores < 1)).all()
    assert np.mean((scores > 0.5) == np.array([bag.label for bag in test])) >= 0.95


def test_without_a_difference_nothing_is_learned() -> None:
    """Labels drawn at random: the scores of new bags tell nothing of theirs."""
    rng = np.random.default_rng(0)
    bags = [as_bag(rng.normal(size=(30, 8)).astype(np.float32), name=str(i), label=i % 2) for i in range(120)]
    scores = score_fisher(fit_fisher(bags[:40], config=SMALL, seed=0), bags[40:])
    assert 0.3 < np.mean((scores > 0.5) == np.arange(80) % 2) < 0.7


def test_the_penalty_of_the_classifier_is_that_of_the_settings() -> None:
    """A small penalty parameter gives up some bags; with labels at random, the order of scores changes."""
    rng = np.random.default_rng(0)
    bags = [as_bag(rng.normal(size=(30, 8)).astype(np.float32), name=str(i), label=i % 2) for i in range(40)]
    of_each = [
        score_fisher(fit_fisher(bags, config=SMALL.model_copy(update={"svm_c": c}), seed=0), bags)
        for c in (1e-4, 10.0)
    ]
    assert not np.array_equal(*map(np.argsort, of_each))


def test_the_mean_training_decision_is_scaled_to_two() -> None:
    bags = feature_bags(12)
    scores = score_fisher(fit_fisher(bags, config=SMALL, seed=0), bags)
    assert np.abs(np.log(scores / (1 - scores))).mean() == pytest.approx(2)


@pytest.mark.parametrize("make", [feature_bags, pixel_bags])
def test_order_of_instances_does_not_matter(make: object) -> None:
    train, test = make(8), make(4, seed=1)  # type: ignore[operator]
    model = fit_fisher(train, config=SMALL, seed=0)
    order = np.random.default_rng(0).permutation
    mixed = [as_bag(bag.instances[order(len(bag))], name=bag.slide_id, label=bag.label) for bag in test]
    assert score_fisher(model, mixed) == pytest.approx(score_fisher(model, test), abs=1e-5)


def test_nothing_of_a_test_bag_enters() -> None:
    """A bag's score is the same alone and among others, whatever its label; and the fit never uses it."""
    train, test = feature_bags(8), feature_bags(6, seed=1)
    described: list[str] = []

    def watched(bag: Bag, *, config: FisherConfig) -> np.ndarray:
        described.append(bag.slide_id)
        return describe(bag, config=config)

    model = fit_fisher(train, config=SMALL, seed=0, describe=watched)
    assert sorted(set(described)) == sorted(bag.slide_id for bag in train)
    together = score_fisher(model, test)
    unlabelled = [as_bag(bag.instances, name="x", label=-1) for bag in reversed(test)]
    alone = [float(score_fisher(model, [bag])[0]) for bag in unlabelled]
    assert alone[::-1] == pytest.approx(together, abs=1e-12)
    again = fit_fisher(train, config=SMALL, seed=0)
    assert score_fisher(again, test).tolist() == together.tolist(), "same seed, same numbers, to the last bit"


def test_mixture_and_pca_are_fitted_on_a_limited_share() -> None:
    """100 descriptors from 8 bags are 12 of each: the rest is not drawn from."""
    bags = feature_bags(8)
    config = SMALL.model_copy(update={"max_descriptors": 100})
    model = fit_fisher(bags, config=config, seed=0)
    assert model.pca.n_samples_ == 8 * 12
    assert model.mixture.n_components == 96 // 20, "20 descriptors a Gaussian"
    assert score_fisher(model, bags).shape == (8,)


@pytest.mark.parametrize(("size_px", "per_patch"), [(32, 16 + 1), (27, 25 + 4)])
def test_descriptors_of_pixels(size_px: int, per_patch: int) -> None:
    """Centres 4 (3) px apart, at least 8 and 14 (6 and 11) px from the border, as in scikit-image."""
    from skimage.feature import daisy

    rng = np.random.default_rng(0)
    bag = as_bag(rng.integers(0, 256, (3, size_px, size_px, 3), dtype=np.uint8), name="a", label=0)
    found = describe(bag, config=FisherConfig())
    assert found.shape == (3 * per_patch, 136)
    grey = bag.instances[1].astype(np.float64) @ [0.299, 0.587, 0.114] / 255
    radius, step = (8, 4) if size_px == 32 else (6, 3)
    first = daisy(grey, radius=radius, step=step, rings=2, histograms=8, orientations=8)[0, 0]
    assert found[per_patch] == pytest.approx(first, abs=1e-5)


def test_descriptors_of_features_are_the_features() -> None:
    bag = feature_bags(1)[0]
    assert describe(bag, config=SMALL).tolist() == bag.instances.astype(np.float32).tolist()


@pytest.mark.parametrize("labels", [(0, 0, 0), (0, 1, -1)])
def test_labels_must_be_both(labels: Sequence[int]) -> None:
    bags = [as_bag(np.ones((5, 3), np.float32), name=str(i), label=label) for i, label in enumerate(labels)]
    with pytest.raises(BagError, match=r"3 training bags with labels .*sdr-svm expected 0 and 1"):
        fit_fisher(bags, config=SMALL, seed=0)


def test_instances_must_differ() -> None:
    bags = [as_bag(np.ones((5, 3), np.float32), name=str(i), label=i % 2) for i in range(4)]
    with pytest.raises(BagError, match="4 training bags whose 20 descriptors are all the same"):
        fit_fisher(bags, config=SMALL, seed=0)


def test_patches_too_small() -> None:
    bag = as_bag(np.zeros((2, 7, 9, 3), np.uint8), name="tiny", label=0)
    with pytest.raises(BagError, match="slide tiny: patches of 7 px; sdr-svm expected 8 px or more"):
        describe(bag, config=FisherConfig())


def test_no_bags_no_scores() -> None:
    assert score_fisher(fit_fisher(feature_bags(6), config=SMALL, seed=0), []).tolist() == []


def test_without_scikit_image_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        if name.split(".")[0] == "skimage":
            raise ImportError("No module named 'skimage'")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'hardmil\[fisher\]'"):
        fit_fisher(feature_bags(4), config=SMALL, seed=0)
    with pytest.raises(ConfigError, match=r"pip install 'hardmil\[fisher\]'"):
        describe(pixel_bags(1)[0], config=SMALL)
