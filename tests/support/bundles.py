"""A small bundle in memory."""

import numpy as np
import torch

from hardmil.bundles.bundle import Bundle, Card
from hardmil.config.model import ModelConfig, resolve_config
from hardmil.config.patches import PatchConfig
from hardmil.mil.network import BagClassifier


def small_bundle(shape: tuple[int, ...]) -> Bundle:
    """A bundle on features of 4 numbers, or on patches of 24 px; it is not on disk."""
    torch.manual_seed(1)
    content = {"network": {"embedding_dim": 8}, "pooling": {"kind": "gated-attention", "lam": 3.0}}
    config = resolve_config(ModelConfig.model_validate(content), kind="features")
    network = BagClassifier(config, instance_shape=shape).eval()
    if len(shape) == 1:
        network.embed.standardise_by(mean=np.arange(4, dtype=np.float32), scale=np.full(4, 2, np.float32))
    card = Card(
        hardmil="0.1.0",
        fingerprint="abc",
        arm="ours+fmb-oof",
        classes=("normal", "tumour"),
        threshold=0.25,
        instances="pixels" if len(shape) == 3 else "features",
        patches=PatchConfig(size_px=24) if len(shape) == 3 else None,
        training_slides=("s1", "007"),
        n_false_positive_bags=2,
        n_hard=5,
    )
    return Bundle(network, card)
