"""The networks: instance -> embedding, and the bag classifier over them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Num
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hardmil.config.model import ResolvedModelConfig
from hardmil.errors import BagError
from hardmil.mil.batches import PackedBatch
from hardmil.mil.pooling import (
    ADDING_KINDS,
    ATTENTION_KINDS,
    AttentionLayer,
    LogitPooling,
    adaptive_weights,
    segment_softmax,
    segment_sum,
)

SMALLEST_PATCH_PX, LARGEST_PATCH_PX = 24, 48


@dataclass(frozen=True, eq=False)
class BagOutput:
    """What a bag classifier says of a packed batch, all in float32.

    `weights` are those with which the instance logits add up to the bag's: attention, less what Eq. 2 takes
    from it; None for a pooling that does more than add.
    """

    bag_logit: Float[Tensor, " bag"]
    attention_logit: Float[Tensor, " instance"]
    attention: Float[Tensor, " instance"]
    instance_logit: Float[Tensor, " instance"]
    weights: Float[Tensor, " instance"] | None


class PatchNetwork(nn.Module):
    """Pixels -> embedding: conv 4x4, 36 - pool - conv 3x3, 48 - pool - fc - fc.

    Pooling comes before ReLU, which gives the same numbers for a quarter of the work.

    Source: Sirinukunwattana et al. 2016 and Ilse et al. 2018, whom Li et al. 2019 follow. Weights begin as in
    He et al. 2015, which the papers leave open: with torch's smaller ones the loss stays flat for epochs.
    """

    def __init__(self, *, size_px: int, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        if not SMALLEST_PATCH_PX <= size_px <= LARGEST_PATCH_PX:
            raise BagError(
                f"patches of {size_px} px: the patch network takes {SMALLEST_PATCH_PX} to "
                f"{LARGEST_PATCH_PX} px; change patches.size_px, or give embeddings of an encoder (features)"
            )
        side = ((size_px - 3) // 2 - 2) // 2
        self.conv1 = nn.Conv2d(3, 36, 4)
        self.conv2 = nn.Conv2d(36, 48, 3)
        self.fc1 = nn.Linear(48 * side * side, embedding_dim)
        self.fc2 = nn.Linear(embedding_dim, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)

    def forward(self, patches: Num[Tensor, "patch size size 3"]) -> Num[Tensor, "patch dim"]:
        """Embeddings; pixels are scaled from 0..255 to -1..1."""
        # channels last in memory already: permuting uint8 (n, h, w, 3) copies nothing
        x = patches.permute(0, 3, 1, 2).to(self._dtype(patches)).sub(127.5).div(127.5)
        # ReLU in place: what it overwrites, no backward pass asks for again
        x = functional.max_pool2d(self.conv1(x), 2).relu_()
        x = functional.max_pool2d(self.conv2(x), 2).relu_()
        x = self.dropout(self.fc1(x.permute(0, 2, 3, 1).flatten(1)).relu_())
        return self.dropout(self.fc2(x).relu_())

    def _dtype(self, patches: Tensor) -> torch.dtype:
        kind = patches.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.conv1.weight.dtype


class FeatureNetwork(nn.Module):
    """Embedding of a frozen encoder -> ours: standardise, one linear layer, ReLU, dropout.

    Mean and scale are those of the training bags' instances and travel with the weights.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, *, feature_dim: int, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("scale", torch.ones(feature_dim))
        self.fc = nn.Linear(feature_dim, embedding_dim)
        self.dropout = nn.Dropout(dropout)

    def standardise_by(self, *, mean: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
        """Take these as the mean and the scale of each feature."""
        self.mean.copy_(torch.tensor(mean))
        self.scale.copy_(torch.tensor(scale))

    def forward(self, features: Float[Tensor, "instance feature"]) -> Num[Tensor, "instance dim"]:
        """Embeddings."""
        standardised = (features.float() - self.mean) / self.scale
        return self.dropout(functional.relu(self.fc(standardised)))


class BagClassifier(nn.Module):
    """Packed bags -> bag logits, attention and instance logits.

    The bag's vector is the weighted sum z of its embeddings; bag logit o . z + b, instance logit
    s_j = o . g_j + b with the same o and b: no second head. Poolings without attention make the bag logit of
    the instance logits.

    Source: Li et al. 2019, Eq. 1 and 2.
    """

    def __init__(self, config: ResolvedModelConfig, *, instance_shape: tuple[int, ...]) -> None:
        super().__init__()
        dim, dropout = config.network.embedding_dim, config.network.dropout
        self.config = config
        self.instance_shape = instance_shape
        self.embed: PatchNetwork | FeatureNetwork
        if len(instance_shape) == 3:
            _check_square(instance_shape)
            self.embed = PatchNetwork(size_px=instance_shape[0], embedding_dim=dim, dropout=dropout)
        else:
            self.embed = FeatureNetwork(feature_dim=instance_shape[0], embedding_dim=dim, dropout=dropout)
        kind = config.pooling.kind
        attends = kind in ATTENTION_KINDS
        self.attend = AttentionLayer(config.pooling, embedding_dim=dim) if attends else None
        self.pool_logits = None if attends else LogitPooling(kind)
        self.classify = nn.Linear(dim, 1)

    def forward(self, batch: PackedBatch) -> BagOutput:
        """Everything the model says of a batch of pixels or features."""
        return self.pool(replace(batch, instances=self.embed(batch.instances)))

    def pool(self, embedded: PackedBatch) -> BagOutput:
        """Everything it says of a batch of its own embeddings; float32 under any autocast."""
        with torch.autocast(embedded.instances.device.type, enabled=False):
            embeddings = embedded.instances.float()
            if self.attend is None:
                return self._pool_logits(self.classify(embeddings).squeeze(1), embedded)
            bag_index, n_bags = embedded.bag_index, embedded.n_bags
            attention_logit = self.attend(embeddings)
            attention = segment_softmax(attention_logit, bag_index=bag_index, n_bags=n_bags)
            weights = self._weights(attention, embedded)
            z = segment_sum(weights.unsqueeze(1) * embeddings, bag_index=bag_index, n_bags=n_bags)
            return BagOutput(
                bag_logit=self.classify(z).squeeze(1),
                attention_logit=attention_logit,
                attention=attention,
                instance_logit=self.classify(embeddings).squeeze(1),
                weights=weights,
            )

    def _pool_logits(self, instance_logit: Float[Tensor, " instance"], batch: PackedBatch) -> BagOutput:
        if self.pool_logits is None:
            raise TypeError("a network without attention has a pooling of logits")
        bag_logit, attention = self.pool_logits(instance_logit, bag_index=batch.bag_index, sizes=batch.sizes)
        # The log is an attention logit: its softmax is the attention again.
        weights = attention if self.config.pooling.kind in ADDING_KINDS else None
        return BagOutput(bag_logit, attention.log(), attention, instance_logit, weights)

    def _weights(self, attention: Tensor, batch: PackedBatch) -> Tensor:
        pooling = self.config.pooling
        adaptive = pooling.kind == "adaptive-attention" and (self.training or pooling.adaptive_at_prediction)
        return adaptive_weights(attention, sizes=batch.sizes, lam=pooling.lam) if adaptive else attention


def _check_square(instance_shape: tuple[int, ...]) -> None:
    height, width = instance_shape[:2]
    if height != width:
        raise BagError(
            f"patches of {width} x {height} px: the patch network takes squares; cut them again, or give "
            "embeddings of an encoder (features)"
        )
