"""The networks: from instance to embedding, and the bag classifier on top."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Num
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hardmil.config.model import ResolvedModelConfig
from hardmil.errors import BagError
from hardmil.mil.bag_output import BagOutput, side_by_side
from hardmil.mil.batches import PackedBatch
from hardmil.mil.dropout import CountedDropout
from hardmil.mil.logit_pooling import LogitPooling, NoisyAndPooling, QuantilePooling, logit_pooling
from hardmil.mil.masking import draw_masked
from hardmil.mil.pooling import AttentionLayer, adaptive_weights, segment_softmax, segment_sum
from hardmil.mil.rivals import rival_pooling
from hardmil.mil.smoothing import smoothed

SMALLEST_PATCH_PX, LARGEST_PATCH_PX = 24, 48


class PatchNetwork(nn.Module):
    """Embeddings of pixel patches: conv 4x4, 36 - pool - conv 3x3, 48 - pool - fc - fc.

    Pooling comes before ReLU, which gives the same numbers for a quarter of the work.

    Source: Sirinukunwattana et al. 2016 and Ilse et al. 2018, whom Li et al. 2019 follow. The papers do not
    say how weights are initialised; here as in He et al. 2015, because with torch's smaller default weights
    the loss stays flat for epochs.
    """

    def __init__(self, *, size_px: int, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        if not SMALLEST_PATCH_PX <= size_px <= LARGEST_PATCH_PX:
            raise BagError(
                f"patches of {size_px} px: the patch network takes {SMALLEST_PATCH_PX} to "
                f"{LARGEST_PATCH_PX} px; change patches.size_px, or use the features of an encoder"
            )
        side = ((size_px - 3) // 2 - 2) // 2
        self.conv1 = nn.Conv2d(3, 36, 4)
        self.conv2 = nn.Conv2d(36, 48, 3)
        self.fc1 = nn.Linear(48 * side * side, embedding_dim)
        self.fc2 = nn.Linear(embedding_dim, embedding_dim)
        self.dropout = CountedDropout(dropout)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)

    def forward(self, patches: Num[Tensor, "patch size size 3"]) -> Num[Tensor, "patch dim"]:
        """Embeddings; pixels are scaled from 0..255 to -1..1."""
        # The memory is already channels last, so permuting uint8 (n, h, w, 3) copies nothing.
        x = patches.permute(0, 3, 1, 2).to(self._dtype(patches)).sub(127.5).div(127.5)
        # ReLU in place: no backward pass needs the values it overwrites.
        x = functional.max_pool2d(self.conv1(x), 2).relu_()
        x = functional.max_pool2d(self.conv2(x), 2).relu_()
        x = self.dropout(self.fc1(x.permute(0, 2, 3, 1).flatten(1)).relu_())
        return self.dropout(self.fc2(x).relu_())

    def _dtype(self, patches: Tensor) -> torch.dtype:
        kind = patches.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.conv1.weight.dtype


class FeatureNetwork(nn.Module):
    """Embeddings of the features of a frozen encoder: standardise, one linear layer, ReLU, dropout.

    Mean and scale are those of the instances of the training bags; they are saved with the weights.
    Standardised features are cut off at `clip`, if it is given.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, *, feature_dim: int, embedding_dim: int, dropout: float, clip: float | None = None
    ) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("scale", torch.ones(feature_dim))
        self.fc = nn.Linear(feature_dim, embedding_dim)
        self.dropout = nn.Dropout(dropout)

    def standardise_by(self, *, mean: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
        """Set the mean and the scale of each feature."""
        self.mean.copy_(torch.tensor(mean))
        self.scale.copy_(torch.tensor(scale))

    def forward(self, features: Float[Tensor, "instance feature"]) -> Num[Tensor, "instance dim"]:
        """Embeddings."""
        standardised = (features.float() - self.mean) / self.scale
        if self.clip is not None:
            standardised = standardised.clamp(-self.clip, self.clip)
        return self.dropout(functional.relu(self.fc(standardised)))


class BagClassifier(nn.Module):
    """Bag logits, attention and instance logits of packed bags.

    With more than two classes, there is a branch for each (`TaskConfig`): its own attention (or one for all,
    `pooling.attention`), its own z, o and b. Lu et al. 2021 (CLAM-MB) have the same branches.

    The bag's vector is the weighted sum z of its embeddings; the bag logit is o . z + b, the instance logit
    s_j = o . g_j + b with the same o and b: there is no second head. Poolings without attention compute the
    bag logit from the instance logits.

    With conjunctive pooling, z is the mean of the embeddings times sigmoid(a), the sigmoid of their attention
    logits: one instance counts in full or not at all, whatever the others do. Its attention is the share of
    each sigmoid in the sum over the bag.

    Source: Li et al. 2019, Eq. 1 and 2. Conjunctive: Early et al. 2024 (MILLET). Departures: the bias is
    added once to the bag logit, not in each term, so that contributions add up as in the other poolings; the
    attention layer is that of `attention`, without biases; no positional encoding.
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
            self.embed = FeatureNetwork(
                feature_dim=instance_shape[0],
                embedding_dim=dim,
                dropout=dropout,
                clip=config.network.clip,
            )
        pool_logits = logit_pooling(config.pooling)
        rival = rival_pooling(config.pooling, embedding_dim=dim)
        has_attention = pool_logits is None and rival is None
        n_branches = config.task.n_branches
        n_logits = n_branches if config.pooling.attention == "per-class" else 1
        self.attend = (
            AttentionLayer(config.pooling, embedding_dim=dim, n_logits=n_logits) if has_attention else None
        )
        self.pool_logits, self.rival = pool_logits, rival
        self.classify = nn.Linear(dim, n_branches)

    def forward(self, batch: PackedBatch) -> BagOutput:
        """The output for a batch of pixels or features."""
        return self.pool(replace(batch, instances=self.embed(batch.instances)))

    def pool(self, embedded: PackedBatch) -> BagOutput:
        """The output for a batch of embeddings of this model; float32 under any autocast."""
        with torch.autocast(embedded.instances.device.type, enabled=False):
            embedded = replace(embedded, instances=embedded.instances.float())
            if self.attend is not None:
                return self._pool_embeddings(self.attend, embedded)
            if self.pool_logits is not None:
                return self._pool_logits(self.pool_logits, embedded)
            if self.rival is not None:
                return self.rival(embedded, classify=self.classify)
            raise TypeError("a bag classifier has attention, a pooling of logits or a rival's; this has none")

    def _pool_embeddings(self, attend: AttentionLayer, batch: PackedBatch) -> BagOutput:
        attention_logit = attend(batch.instances)
        if attention_logit.dim() == 1:
            return self._pool_with(attention_logit, batch, classify=self.classify)
        of_branches = zip(attention_logit.unbind(1), self.classify.weight, self.classify.bias, strict=True)
        return side_by_side(
            [
                self._pool_with(
                    logits, batch, classify=partial(functional.linear, weight=o[None], bias=b[None])
                )
                for logits, o, b in of_branches
            ]
        )

    def _pool_with(
        self, attention_logit: Tensor, batch: PackedBatch, *, classify: Callable[[Tensor], Tensor]
    ) -> BagOutput:
        embeddings, bag_index, n_bags = batch.instances, batch.bag_index, batch.n_bags
        n_used, kind = batch.sizes, self.config.pooling.kind
        if self.config.pooling.smooth_steps > 0:
            attention_logit = self._smoothed(attention_logit, batch)
        is_masked = self._masked(attention_logit, batch)
        if is_masked is not None:
            attention_logit = attention_logit.masked_fill(is_masked, -torch.inf)
            n_used = n_used - torch.bincount(bag_index[is_masked], minlength=n_bags)
        if kind == "conjunctive":
            attention_logit = functional.logsigmoid(attention_logit)
        attention = segment_softmax(attention_logit, bag_index=bag_index, n_bags=n_bags)
        if kind == "conjunctive":
            weights = attention_logit.exp() / n_used[bag_index]
        else:
            weights = self._weights(attention, sizes=batch.sizes, n_used=n_used)
        z = segment_sum(weights.unsqueeze(1) * embeddings, bag_index=bag_index, n_bags=n_bags)
        return BagOutput(
            bag_logit=classify(z).squeeze(1),
            attention_logit=attention_logit,
            attention=attention,
            instance_logit=classify(embeddings).squeeze(1),
            weights=weights,
            vector=z,
        )

    def _pool_logits(self, pooling: LogitPooling, batch: PackedBatch) -> BagOutput:
        instance_logit = self.classify(batch.instances).squeeze(1)
        if instance_logit.dim() == 1:
            return self._pooled_logits(instance_logit, pooling, batch)
        return side_by_side(
            [self._pooled_logits(logits, pooling, batch) for logits in instance_logit.unbind(1)]
        )

    @staticmethod
    def _pooled_logits(instance_logit: Tensor, pooling: LogitPooling, batch: PackedBatch) -> BagOutput:
        bag_logit, attention = pooling(instance_logit, bag_index=batch.bag_index, sizes=batch.sizes)
        # Of mean, max and topk, the bag logit is the sum of the instance logits weighted by attention.
        weights = None if isinstance(pooling, NoisyAndPooling | QuantilePooling) else attention
        # The softmax of log attention is the attention again, so the log serves as attention logit.
        return BagOutput(bag_logit, attention.log(), attention, instance_logit, weights)

    def _smoothed(self, attention_logit: Tensor, batch: PackedBatch) -> Tensor:
        steps, alpha = self.config.pooling.smooth_steps, self.config.pooling.smooth_alpha
        return smoothed(attention_logit, neighbours=batch.neighbours(), steps=steps, alpha=alpha)

    def _masked(self, attention_logit: Tensor, batch: PackedBatch) -> Tensor | None:
        """Whether each instance is left out of this step; None if all are used."""
        top, share = self.config.pooling.mask_top, self.config.pooling.mask_share
        if not self.training or top == 0:
            return batch.left_out
        drawn = draw_masked(attention_logit, sizes=batch.sizes, top=top, share=share)
        return drawn if batch.left_out is None else drawn | batch.left_out

    def _weights(self, attention: Tensor, *, sizes: Tensor, n_used: Tensor) -> Tensor:
        pooling = self.config.pooling
        adaptive = pooling.kind == "adaptive-attention" and (self.training or pooling.adaptive_at_prediction)
        if not adaptive:
            return attention
        return adaptive_weights(attention, sizes=sizes, lam=pooling.lam, n_used=n_used)


def _check_square(instance_shape: tuple[int, ...]) -> None:
    height, width = instance_shape[:2]
    if height != width:
        raise BagError(
            f"patches of {width} x {height} px: the patch network takes square patches; extract them again, "
            "or use the features of an encoder"
        )
