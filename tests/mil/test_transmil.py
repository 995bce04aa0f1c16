import math

import pytest
import torch
from tests.support.packed import bags_of, packed
from torch import nn

from hardmil.mil.transmil import SelfAttention, TransformerPooling

DIM = 8


def _pooling() -> tuple[TransformerPooling, nn.Linear]:
    torch.manual_seed(0)
    return TransformerPooling(embedding_dim=DIM), nn.Linear(DIM, 1)


def _attended(layer: SelfAttention, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer with one product for each head and token."""
    width = DIM // layer.n_heads
    query, key, value = layer.to_heads(layer.norm(tokens)).split(DIM, dim=1)
    rows, of_first = [], torch.zeros(len(tokens))
    for token in range(len(tokens)):
        parts = []
        for head in range(layer.n_heads):
            own = slice(head * width, (head + 1) * width)
            attention = (query[token, own] @ key[:, own].T / math.sqrt(width)).softmax(0)
            parts.append(attention @ value[:, own])
            if token == 0:
                of_first = of_first + attention / layer.n_heads
        rows.append(tokens[token] + layer.merge(torch.cat(parts)))
    return torch.stack(rows), of_first


def _mixed(pooling: TransformerPooling, tokens: torch.Tensor, edge: int) -> torch.Tensor:
    """The convolutions, one position and kernel at a time."""
    square, rows = tokens.reshape(edge, edge, DIM), []
    for y in range(edge):
        for x in range(edge):
            total = square[y, x].clone()
            for layer in pooling.convolutions:
                half = layer.kernel_size[0] // 2
                total = total + layer.bias
                for v in range(max(0, y - half), min(edge, y + half + 1)):
                    for u in range(max(0, x - half), min(edge, x + half + 1)):
                        total = total + layer.weight[:, 0, v - y + half, u - x + half] * square[v, u]
            rows.append(total)
    return torch.stack(rows)


@pytest.mark.parametrize("size", [1, 2, 4, 7, 12])
def test_against_a_loop(size: int):
    pooling, classify = _pooling()
    batch = packed(size, dim=DIM)
    found = pooling(batch, classify=classify)
    (bag,) = bags_of(batch)
    edge = math.ceil(math.sqrt(size))
    square = torch.stack([bag[j % size] for j in range(edge * edge)])
    tokens, _ = _attended(pooling.first, torch.cat([pooling.token, square]))
    tokens = torch.cat([tokens[:1], _mixed(pooling, tokens[1:], edge)])
    tokens, attention = _attended(pooling.second, tokens)
    logits = classify(pooling.norm(tokens)).squeeze(1)
    torch.testing.assert_close(found.bag_logit, logits[:1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.instance_logit, logits[1 : size + 1], rtol=1e-4, atol=1e-5)
    of_instances = [sum(attention[1 + j] for j in range(i, edge * edge, size)) for i in range(size)]
    expected = torch.stack(of_instances) / sum(of_instances)
    torch.testing.assert_close(found.attention, expected, rtol=1e-4, atol=1e-5)


def test_bags_do_not_see_each_other():
    pooling, classify = _pooling()
    batch = packed(6, 11, dim=DIM)
    together = pooling(batch, classify=classify)
    alone = [pooling(packed(6, dim=DIM), classify=classify).bag_logit]
    torch.testing.assert_close(together.bag_logit[:1], alone[0])
