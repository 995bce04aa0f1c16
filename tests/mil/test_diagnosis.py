import re

import numpy as np
import pytest

from hardmil.mil.bag_score import BagScore
from hardmil.mil.diagnosis import attention_entropy, diagnose

N = 50
LOGITS = np.linspace(-2, 2, N).astype(np.float32)


def _score(attention: np.ndarray, *, shift: float = 0.0) -> BagScore:
    shifted = (LOGITS + shift).astype(np.float32)
    return BagScore(0.7, (attention / attention.sum()).astype(np.float32), shifted)


TOWARDS = np.exp(1.5 * np.linspace(-2, 2, N))
"""Attention as it should be in a positive slide: on what speaks for it."""


def _found(attention: np.ndarray, *, is_positive: bool = True, truth: np.ndarray | None = None) -> list[str]:
    return [one.finding for one in diagnose(_score(attention), is_positive=is_positive, truth=truth)]


def test_entropy_by_its_ends():
    assert attention_entropy(np.full(8, 1 / 8)) == pytest.approx(1.0)
    assert attention_entropy(np.array([1.0, 0.0, 0.0])) == 0.0
    assert attention_entropy(np.array([0.0, 1.0])) == 0.0
    assert attention_entropy(np.array([1.0])) == 1.0, "of one patch, attention is even"
    assert attention_entropy(np.array([0.5, 0.5, 0.0, 0.0])) == pytest.approx(0.5)


def test_good_attention_has_no_finding():
    assert _found(TOWARDS) == []
    assert _found(TOWARDS[::-1], is_positive=False) == []


def test_even_attention_is_collapsed():
    (one,) = diagnose(_score(np.ones(N)), is_positive=True)
    assert one.finding == "collapsed"
    assert "50 patches: entropy 100.0%" in one.meaning
    assert "gated-attention" in one.remedy
    assert _found(np.ones(N), is_positive=False) == [], "there is nothing to find in a negative slide"


def test_one_patch_with_most_of_it_is_over_concentrated():
    attention = np.ones(N)
    attention[-1] = 60
    (one,) = diagnose(_score(attention), is_positive=True)
    assert one.finding == "over-concentrated"
    assert "55% of the attention" in one.meaning


def test_a_small_bag_has_neither():
    score = BagScore(0.7, np.full(10, 0.1, np.float32), np.zeros(10, np.float32))
    assert diagnose(score, is_positive=True) == []


def test_attention_on_what_speaks_against_a_positive_slide_is_inverted():
    (one,) = diagnose(_score(TOWARDS[::-1]), is_positive=True)
    assert one.finding == "inverted"
    assert re.search(r"1\.\d standard deviations below", one.meaning)


@pytest.mark.parametrize("shift", [-8.0, 8.0])
def test_only_differences_between_logits_count(shift: float):
    for attention, findings in ((TOWARDS, []), (TOWARDS[::-1], ["inverted"])):
        found = diagnose(_score(attention, shift=shift), is_positive=True)
        assert [one.finding for one in found] == findings


def test_known_truth_decides_on_inverted():
    lesions = np.full(N, np.nan)
    lesions[:5], lesions[-5:] = 1, 0
    assert _found(TOWARDS, truth=lesions) == ["inverted"]
    assert _found(TOWARDS, truth=1 - lesions) == []
    assert _found(TOWARDS, truth=np.full(N, np.nan)) == []
    assert _found(TOWARDS, truth=lesions, is_positive=False) == []
