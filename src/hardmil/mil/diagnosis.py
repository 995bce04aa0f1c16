"""Problems with the attention on a slide: collapsed, over-concentrated or inverted; and what to do."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from hardmil.metrics import binary_metrics
from hardmil.mil.bag_score import BagScore

MIN_PATCHES = 16
"""With fewer patches, attention is always nearly even or on one patch."""
FLAT = 0.99
"""Share of the maximum entropy from which attention is called collapsed."""
ONE_PATCH = 0.5
"""Share of attention on one patch from which attention is called over-concentrated."""
AWAY = 0.25
"""How far the mean logit of attended patches may be below that of the slide, in standard deviations."""

Finding = Literal["collapsed", "over-concentrated", "inverted"]

REMEDY: dict[Finding, str] = {
    "collapsed": (
        "if this holds for most slides, the model averages: train longer (training.epochs), try pooling.kind "
        "gated-attention, or use patches with more tissue context (patches.um_per_px)"
    ),
    "over-concentrated": (
        "look at that patch: a fold, pen or dust would be a wrong reason. If this holds for many slides, "
        "raise network.dropout or lower training.max_instances, so that steps see different patches, or "
        "train an arm such as ours-masktop, which leaves out some of the most attended patches in training"
    ),
    "inverted": (
        "check the label of the slide, then its key patches; if the label is right, train the arm "
        "ours+instance, or add verdicts on some of its patches (mining.verdicts)"
    ),
}


@dataclass(frozen=True)
class Diagnosis:
    """A problem with the attention on a slide; `meaning` has the numbers."""

    finding: Finding
    meaning: str

    @property
    def remedy(self) -> str:
        """What to do."""
        return REMEDY[self.finding]


def attention_entropy(attention: Float[np.ndarray, " instance"]) -> float:
    """Entropy of the attention as a share of the maximum: 1 is even attention, 0 is all on one patch."""
    nonzero = attention[attention > 0].astype(np.float64)
    return float(-(nonzero * np.log(nonzero)).sum() / np.log(len(attention))) if len(attention) > 1 else 1.0


def diagnose(
    score: BagScore,
    *,
    is_positive: bool,
    truth: Float[np.ndarray, " instance"] | None = None,
    class_name: str = "the positive class",
) -> list[Diagnosis]:
    """The problems with the attention on a slide; empty if there are none.

    Even attention is a problem only on a positive slide: on a negative one there is nothing to find.

    Args:
        score: The output of the model for the slide.
        is_positive: Its label; what the model calls it where the label is unknown.
        truth: For each instance: 1 lesion, 0 normal, NaN unknown.
        class_name: The class that logits are for.
    """
    attention = score.attention
    found: list[Diagnosis] = []
    if len(attention) >= MIN_PATCHES:
        entropy, highest = attention_entropy(attention), float(attention.max())
        if entropy >= FLAT and is_positive:
            spread = f"attention is spread evenly over {len(attention)} patches"
            meaning = f"{spread}: entropy {entropy:.1%} of the maximum"
            found.append(Diagnosis("collapsed", meaning))
        elif highest >= ONE_PATCH:
            meaning = f"one of {len(attention)} patches has {highest:.0%} of the attention"
            found.append(Diagnosis("over-concentrated", meaning))
    inverted = _inverted(score, truth, class_name=class_name) if is_positive else None
    return found + ([Diagnosis("inverted", inverted)] if inverted else [])


def _inverted(score: BagScore, truth: np.ndarray | None, *, class_name: str) -> str | None:
    return _against_truth(score.attention, truth) or _against_logits(score, class_name=class_name)


def _against_truth(attention: np.ndarray, truth: np.ndarray | None) -> str | None:
    if truth is None:
        return None
    known = ~np.isnan(truth)
    labels, scores = truth[known].astype(np.int64), attention[known].astype(np.float64)
    if len(set(labels.tolist())) < 2:
        return None
    auc = binary_metrics(labels, scores).auc
    return f"lesion patches have less attention than normal ones: AUC {auc:.2f}" if auc < 0.5 else None


def _against_logits(score: BagScore, *, class_name: str) -> str | None:
    """On a positive slide, attention should be on patches with high logits for its class."""
    logits = score.instance_logit.astype(np.float64)
    spread = float(logits.std())
    away = float(logits.mean() - (score.attention * logits).sum())
    if len(logits) < MIN_PATCHES or spread == 0 or away <= AWAY * spread:
        return None
    return (
        f"attention is on patches with low logits for {class_name}: their mean logit is "
        f"{away / spread:.1f} standard deviations below that of the slide"
    )
