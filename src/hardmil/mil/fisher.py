"""SDR + SVM: local descriptors -> Gaussian mixture -> Fisher vector -> supervised reduction -> linear SVM.

Source: Song et al., TMI 2017. The text with their supervised ("separation-guided") reduction is not available
to us. **Partial least squares (PLS) stands in for it**: of the linear supervised reductions it is the one
that works with thousands of dimensions and about forty bags, because it inverts no covariance matrix. The
results of this arm are those of the stand-in, not of their method. The descriptors differ, too: ours are
DAISY (Tola et al. 2010) of the luminance of a patch, or the features themselves for bags of features.
"""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from hardmil.bags.bag import Bag
from hardmil.config.evaluation import FisherConfig
from hardmil.errors import BagError, ConfigError

RINGS, HISTOGRAMS, ORIENTATIONS = 2, 8, 8
"""DAISY: a centre and two rings of eight points, each with a histogram of eight directions; 136 numbers."""

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)

MIN_PATCH_PX = 8

MIN_DESCRIPTORS_PER_MODE = 20
"""Each Gaussian needs some descriptors for its variance; with fewer descriptors there are fewer Gaussians."""

MEAN_LOGIT = 2.0
"""The mean absolute decision on the training bags is scaled to this: sigmoid(2) = 0.88."""

MAX_LOGIT = 30.0
"""Keeps a score within (0, 1) in float64."""


@runtime_checkable
class Describe(Protocol):
    """A function for the local descriptors of a bag: `describe`, or one that caches its results."""

    def __call__(self, bag: Bag, *, config: FisherConfig) -> Float[np.ndarray, "patch descriptor"]:
        """The same descriptors for the same bag and config."""
        ...


@dataclass(frozen=True, eq=False)
class FisherModel:
    """Everything fitted on the training bags, in the order of use."""

    config: FisherConfig
    pca: PCA
    mixture: GaussianMixture
    reduction: PLSRegression
    scaler: StandardScaler
    svm: LinearSVC
    decision_scale: float


def describe(bag: Bag, *, config: FisherConfig) -> Float[np.ndarray, "patch descriptor"]:
    """The local descriptors of a bag: several DAISYs for each patch of pixels; for features, the features.

    DAISYs of each radius are on a grid, completely inside the patch; all radii have equal weight, as in dense
    SIFT at several scales. The result depends only on bag and config, so a caller can cache it.

    Raises:
        ConfigError: If scikit-image is not installed.
        BagError: If the patches are too small to describe.
    """
    if bag.kind == "features":
        return bag.instances.astype(np.float32)
    daisy = _skimage_feature().daisy
    size_px = min(bag.instances.shape[1:3])
    if size_px < MIN_PATCH_PX:
        raise BagError(
            f"slide {bag.slide_id}: patches of {size_px} px; sdr-svm expected {MIN_PATCH_PX} px or more; "
            "extract larger ones (patches.size_px)"
        )
    shape = {"rings": RINGS, "histograms": HISTOGRAMS, "orientations": ORIENTATIONS}
    step_px = max(1, int(config.step * size_px))
    radii_px = [max(1, int(share * size_px)) for share in config.radii]
    grey = (bag.instances @ LUMINANCE) / 255
    found = [
        daisy(patch, step=step_px, radius=radius_px, **shape) for patch in grey for radius_px in radii_px
    ]
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in found]).astype(np.float32)


def fit_fisher(
    bags: Sequence[Bag], *, config: FisherConfig, seed: int, describe: Describe = describe
) -> FisherModel:
    """A model fitted on the training bags only: PCA, mixture, reduction, scaler and SVM.

    The same bags, config and seed give the same model.

    Raises:
        BagError: If a bag has no label, all labels are the same, all descriptors are the same, or patches are
            too small to describe.
        ConfigError: If scikit-image is not installed.
    """
    labels = _labels(bags)
    described = [describe(bag, config=config) for bag in bags]
    sample = _sample(described, n=config.max_descriptors, seed=seed)
    if not np.ptp(sample, axis=0).any():
        raise BagError(
            f"{len(bags)} training bags whose {len(sample)} descriptors are all the same; sdr-svm expected "
            "instances that differ; check the patches or features"
        )
    pca = _fit_pca(sample, config=config)
    mixture = _fit_mixture(pca.transform(sample), config=config, seed=seed)
    vectors = np.stack([_fisher_vector(mixture, pca.transform(one)) for one in described])
    return _fit_classifier(vectors, labels, pca=pca, mixture=mixture, config=config, seed=seed)


def score_fisher(
    model: FisherModel, bags: Sequence[Bag], *, describe: Describe = describe
) -> Float[np.ndarray, " bag"]:
    """Scores in (0, 1); above 0.5 is positive.

    The sigmoid of the SVM's decision, scaled so that the mean absolute decision on the training bags is 2
    (0.88). It keeps order and sign, but is not a calibrated probability: on its training bags an SVM is
    overconfident.

    Raises:
        ConfigError: If scikit-image is not installed.
    """
    if not bags:
        return np.zeros(0)
    described = (describe(bag, config=model.config) for bag in bags)
    vectors = np.stack([_fisher_vector(model.mixture, model.pca.transform(one)) for one in described])
    reduced = model.scaler.transform(model.reduction.transform(vectors))
    logits = model.svm.decision_function(reduced) / model.decision_scale
    return 1 / (1 + np.exp(-np.clip(logits, -MAX_LOGIT, MAX_LOGIT)))


def _labels(bags: Sequence[Bag]) -> Int[np.ndarray, " bag"]:
    labels = np.array([bag.label for bag in bags], np.int64)
    if set(labels.tolist()) != {0, 1}:
        raise BagError(
            f"{len(bags)} training bags with labels {sorted(set(labels.tolist()))}; sdr-svm expected 0 and "
            "1; add slides with the other label, leave out slides without a label"
        )
    return labels


def _sample(
    described: Sequence[Float[np.ndarray, "_ descriptor"]], *, n: int, seed: int
) -> Float[np.ndarray, "sample descriptor"]:
    """At most n descriptors, an equal number from each bag."""
    rng = np.random.default_rng(seed)
    share = max(1, n // len(described))
    return np.concatenate(
        [one if len(one) <= share else one[rng.choice(len(one), share, replace=False)] for one in described]
    )


def _fit_pca(sample: Float[np.ndarray, "sample descriptor"], *, config: FisherConfig) -> PCA:
    n_dims = min(config.n_dims, *sample.shape)
    return PCA(n_dims, svd_solver="covariance_eigh").fit(sample.astype(np.float64))


def _fit_mixture(
    sample: Float[np.ndarray, "sample dim"], *, config: FisherConfig, seed: int
) -> GaussianMixture:
    feature = _skimage_feature()
    n_modes = max(1, min(config.n_modes, len(sample) // MIN_DESCRIPTORS_PER_MODE))
    # skimage looks up the key covariance_type in the argument.
    options = {"covariance_type": "diag", "random_state": seed, "reg_covar": 1e-6 * float(sample.var())}
    with warnings.catch_warnings():
        # 100 iterations are enough: further improvements are below the noise of the sample.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return feature.learn_gmm(sample, n_modes=n_modes, gm_args=options)


def _fisher_vector(
    mixture: GaussianMixture, descriptors: Float[np.ndarray, "patch dim"]
) -> Float64[np.ndarray, " gradient"]:
    """Gradients with respect to weights, means and variances, power- and length-normalised.

    Source: Perronnin et al., ECCV 2010, as in scikit-image.
    """
    return _skimage_feature().fisher_vector(descriptors.astype(np.float64), mixture, improved=True)


def _fit_classifier(
    vectors: Float64[np.ndarray, "bag gradient"],
    labels: Int[np.ndarray, " bag"],
    *,
    pca: PCA,
    mixture: GaussianMixture,
    config: FisherConfig,
    seed: int,
) -> FisherModel:
    n_reduced = min(config.n_reduced, len(vectors) - 1, vectors.shape[1])
    with warnings.catch_warnings():
        # A few bags may need fewer directions; the others are then 0, which does no harm.
        warnings.filterwarnings("ignore", "y residual is constant", UserWarning)
        reduction = PLSRegression(n_reduced, scale=False).fit(vectors, labels.astype(np.float64))
    reduced = reduction.transform(vectors)
    scaler = StandardScaler().fit(reduced)
    svm = LinearSVC(C=config.svm_c, class_weight="balanced", random_state=seed, max_iter=10_000)
    svm.fit(scaler.transform(reduced), labels)
    decisions = svm.decision_function(scaler.transform(reduced))
    scale = max(float(np.abs(decisions).mean()), 1e-12) / MEAN_LOGIT
    return FisherModel(config, pca, mixture, reduction, scaler, svm, scale)


def _skimage_feature() -> ModuleType:
    try:
        from skimage import feature
    except ImportError as error:
        raise ConfigError(
            "sdr-svm: scikit-image is not installed, which computes its descriptors and Fisher vectors; "
            "install it with: pip install 'hardmil[fisher]'"
        ) from error
    return feature
