"""TransMIL: self-attention between all instances of a bag, and a class token."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hardmil.mil.bag_output import BagOutput
from hardmil.mil.batches import PackedBatch

N_HEADS = 8
KERNELS = (7, 5, 3)


class TransformerPooling(nn.Module):
    """Two layers of self-attention with convolutions between them; the class token gives the bag logit.

    The instances of a bag are laid out as a square, in their order; the first ones fill the last row up. The
    instance logit is the classifier on the token of the instance. Attention is that of the class token in the
    second layer, mean over the heads.

    Source: Shao et al. 2021 (TransMIL), Algorithms 1 and 2. Departures: attention is exact, where the paper
    approximates it (Nystrom), so memory and time grow with the square of the bag; the width of the layers is
    that of the embedding.
    """

    def __init__(self, *, embedding_dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, embedding_dim))
        self.first, self.second = (SelfAttention(embedding_dim) for _ in range(2))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(embedding_dim, embedding_dim, kernel, padding=kernel // 2, groups=embedding_dim)
            for kernel in KERNELS
        )
        self.norm = nn.LayerNorm(embedding_dim)

    def forward(self, batch: PackedBatch, *, classify: nn.Linear) -> BagOutput:
        """The output for a batch of embeddings, one bag after the other."""
        parts = [self._bag(bag, classify) for bag in batch.instances.split(batch.sizes.tolist())]
        bag_logit, attention, instance_logit = (torch.cat(one) for one in zip(*parts, strict=True))
        return BagOutput(bag_logit, attention.log(), attention, instance_logit, None)

    def _bag(
        self, embeddings: Float[Tensor, "instance dim"], classify: nn.Linear
    ) -> tuple[Float[Tensor, "1"], Float[Tensor, " instance"], Float[Tensor, " instance"]]:
        n = len(embeddings)
        edge = math.isqrt(n - 1) + 1
        square = torch.cat([embeddings, embeddings[: edge * edge - n]])
        tokens, _ = self.first(torch.cat([self.token, square]))
        tokens, attention = self.second(torch.cat([tokens[:1], self._mixed(tokens[1:], edge=edge)]))
        logits = classify(self.norm(tokens)).squeeze(1)
        # The copies in the last row are the same instances.
        attention = attention[1 : n + 1].index_add(
            0, torch.arange(len(square) - n, device=attention.device), attention[n + 1 :]
        )
        return logits[:1], attention / attention.sum(), logits[1 : n + 1]

    def _mixed(self, tokens: Float[Tensor, "token dim"], *, edge: int) -> Float[Tensor, "token dim"]:
        """Each token with its neighbours in the square (PPEG)."""
        picture = tokens.T.reshape(1, -1, edge, edge)
        mixed = picture + torch.stack([one(picture) for one in self.convolutions]).sum(0)
        return mixed.flatten(2).squeeze(0).T


class SelfAttention(nn.Module):
    """x + attention(norm(x)), and the mean attention of the first token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.n_heads = math.gcd(N_HEADS, dim)
        self.norm = nn.LayerNorm(dim)
        self.to_heads = nn.Linear(dim, 3 * dim, bias=False)
        self.merge = nn.Linear(dim, dim)

    def forward(self, tokens: Float[Tensor, "token dim"]) -> tuple[Tensor, Float[Tensor, " token"]]:
        """The tokens after this layer, and the attention of the first one."""
        n, dim = tokens.shape
        heads = self.to_heads(self.norm(tokens)).reshape(n, 3, self.n_heads, dim // self.n_heads)
        query, key, value = heads.permute(1, 2, 0, 3)
        attended = functional.scaled_dot_product_attention(query, key, value)
        of_first = query[:, :1] @ key.transpose(1, 2) / math.sqrt(dim // self.n_heads)
        merged = self.merge(attended.transpose(0, 1).reshape(n, dim))
        return tokens + merged, of_first.softmax(2).mean(0).squeeze(0)
