"""What is wrong with a slide's attention: collapsed, over-concentrated, inverted; and what to do."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from hardmil.metrics import binary_metrics
from hardmil.mil.inference import BagScore

MIN_PATCHES = 16
"""Of fewer, attention is always near even, or on one patch."""
FLAT = 0.99
"""Entropy, as a share of its most, from which attention is called collapsed."""
ONE_PATCH = 0.5
"""Share of the attention on one patch from which it is called over-concentrated."""
AWAY = 0.25
"""How far the attended patches' logit may lie below the slide's mean, in standard deviations."""

Finding = Literal["collapsed", "over-concentrated", "inverted"]

REMEDY: dict[Finding, str] = {
    "collapsed": (
        "if most slides are so, the model averages: train longer (training.epochs), try pooling.kind "
        "gated-attention, or take patches of more tissue context (patches.um_per_px)"
    ),
    "over-concentrated": (
        "look at that patch: a fold, pen or dust there is a false reason. If many slides are so, raise "
        "network.dropout, or lower training.max_instances, so that no step sees the same patches"
    ),
    "inverted": (
        "check the slide's label, then its key patches; if it is right, train the arm ours+instance, or give "
        "verdicts on some of its patches (mining.verdicts)"
    ),
}


@dataclass(frozen=True)
class Diagnosis:
    """One thing that is wrong with the attention of a slide; `meaning` has its figures."""

    finding: Finding
    meaning: str

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return REMEDY[self.finding]


def attention_entropy(attention: Float[np.ndarray, " instance"]) -> float:
    """Entropy of the attention as a share of its most, that of even attention: 1 is flat, 0 is one patch."""
    held = attention[attention > 0].astype(np.float64)
    return float(-(held * np.log(held)).sum() / np.log(len(attention))) if len(attention) > 1 else 1.0


def diagnose(
    score: BagScore, *, is_positive: bool, truth: Float[np.ndarray, " instance"] | None = None
) -> list[Diagnosis]:
    """What is wrong with a slide's attention; empty if nothing.

    Even attention is wrong in a positive slide alone: in a negative one there is nothing to find.

    Args:
        score: What the model says of the slide.
        is_positive: Its label; where that is not known, what it is called.
        truth: Of each instance: 1 lesion, 0 normal, nan not known.
    """
    attention = score.attention
    found: list[Diagnosis] = []
    if len(attention) >= MIN_PATCHES:
        entropy, most = attention_entropy(attention), float(attention.max())
        if entropy >= FLAT and is_positive:
            meaning = (
                f"attention is spread evenly over {len(attention)} patches: entropy {entropy:.1%} of its most"
            )
            found.append(Diagnosis("collapsed", meaning))
        elif most >= ONE_PATCH:
            meaning = f"one of {len(attention)} patches holds {most:.0%} of the attention"
            found.append(Diagnosis("over-concentrated", meaning))
    inverted = _against_truth(attention, truth) if is_positive else None
    inverted = inverted or (_against_logits(score) if is_positive else None)
    return found + ([Diagnosis("inverted", inverted)] if inverted else [])


def _against_truth(attention: np.ndarray, truth: np.ndarray | None) -> str | None:
    if truth is None:
        return None
    known = ~np.isnan(truth)
    labels, scores = truth[known].astype(np.int64), attention[known].astype(np.float64)
    if len(set(labels.tolist())) < 2:
        return None
    auc = binary_metrics(labels, scores).auc
    return f"lesion patches draw less attention than normal ones: AUC {auc:.2f}" if auc < 0.5 else None


def _against_logits(score: BagScore) -> str | None:
    """In a positive slide, attention should lie on what speaks for the positive class, not away from it."""
    logits = score.instance_logit.astype(np.float64)
    spread = float(logits.std())
    away = float(logits.mean() - (score.attention * logits).sum())
    if len(logits) < MIN_PATCHES or spread == 0 or away <= AWAY * spread:
        return None
    return (
        "attention lies on patches that speak against the positive class: their mean logit is "
        f"{away / spread:.1f} standard deviations below the slide's"
    )
