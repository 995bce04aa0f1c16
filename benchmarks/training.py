"""Training speed of the patch network, end to end: hardmil compared with a plain loop, and a population.

    python benchmarks/training.py --data DIR   # the colon set; without it, bags of noise of the same shape
    python benchmarks/training.py --rounds 3
    python benchmarks/training.py --device cuda --population 64

The plain loop is what a reader of the paper would write first: float32, NCHW, one bag per step, ReLU before
pooling, plain Adam, flips and rotations patch by patch. "torch dropout" is hardmil with the dropout of torch,
which it had before. All train on the same bags in the same run, in alternation, so that the ratio is reliable
on a busy computer. The results are medians over the rounds. With `--population`, that many networks are
trained at once instead, and the share of the speed of a large matrix product is printed.
"""

import argparse
import statistics
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from hardmil.bags.bag import Bag
from hardmil.config.model import ModelConfig, NetworkConfig, TrainingConfig, resolve_config
from hardmil.config.patches import PatchConfig
from hardmil.device import Device, find_device
from hardmil.mil import network
from hardmil.mil.population import Training, fit_population
from hardmil.mil.training import fit

COLON_BAGS, COLON_PATCHES, COLON_PX = 100, 228, 27


class PlainNetwork(nn.Module):
    """The network of Ilse et al. 2018 with the paper's pooling, written in the plain way."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 36, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(36, 48, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(48 * 5 * 5, 512), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5),
        )  # fmt: skip
        self.u = nn.Linear(512, 128, bias=False)
        self.v = nn.Linear(128, 1, bias=False)
        self.o = nn.Linear(512, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logit of one bag."""
        g = self.features(x)
        w = torch.softmax(self.v(nn.functional.softsign(self.u(g))).squeeze(1), 0)
        w = torch.where(w < w.mean(), 2 * w, w)
        return self.o(w @ g)


def plain_epoch(bags: list[Bag], network: PlainNetwork, optimiser: torch.optim.Optimizer) -> None:
    network.train()
    rng = np.random.default_rng(0)
    for i in rng.permutation(len(bags)):
        turned = [turn(patch, rng) for patch in bags[i].instances]
        x = torch.from_numpy(np.stack(turned)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
        label = torch.tensor([float(bags[i].label)])
        loss = nn.functional.binary_cross_entropy_with_logits(network(x), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def turn(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    turned = np.rot90(patch, int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.integers(2) else turned)


def colon_bags(data: Path | None) -> list[Bag]:
    """The bags of the colon set, or noise of the same shape."""
    if data is not None:
        from hardmil.paper.datasets import read_published

        config = PatchConfig(size_px=COLON_PX, um_per_px=None)
        return list(read_published("colon", folder=data, split="image", config=config).bags)
    rng = np.random.default_rng(0)
    coords = np.zeros((COLON_PATCHES, 2), np.int64)
    shape = (COLON_PATCHES, COLON_PX, COLON_PX, 3)
    return [
        Bag(str(i), str(i), i % 2, rng.integers(0, 256, shape, dtype=np.uint8), coords, COLON_PX)
        for i in range(COLON_BAGS)
    ]


def seconds(function: object, *arguments: object, **options: object) -> float:
    started = time.perf_counter()
    function(*arguments, **options)  # type: ignore[operator]
    return time.perf_counter() - started


def flop_per_patch(size_px: int) -> float:
    """Floating point operations of one patch, forward and backward; pixels get no gradient."""
    first = size_px - 3
    second = first // 2 - 2
    conv1, conv2 = first**2 * 48 * 36, second**2 * 324 * 48
    dense = (second // 2) ** 2 * 48 * 512 + 512 * 512
    return 2.0 * (2 * conv1 + 3 * conv2 + 3 * dense)


def matmul_flop_per_s(device: Device) -> float:
    """Speed of a large matrix product in the precision of the patch network."""
    n = 8192 if device.name.startswith("cuda") else 1024
    a, b = torch.randn(2, n, n, device=device.name).to(torch.bfloat16 if device.bfloat16 else torch.float32)
    a @ b
    synchronise(device)
    started = time.perf_counter()
    for _ in range(10):
        a @ b
    synchronise(device)
    return 10 * 2 * n**3 / (time.perf_counter() - started)


def synchronise(device: Device) -> None:
    if device.name.startswith("cuda"):
        torch.cuda.synchronize()


def measure_population(bags: list[Bag], *, n_networks: int, device: Device) -> None:
    """Print the speed of a population, half of the bags for each network, in two epochs after a first one."""
    counts, times = [0], [0.0]
    training = TrainingConfig(epochs=3, lr=5e-5)
    config = resolve_config(ModelConfig(network=NetworkConfig(), training=training), kind="pixels")
    trainings = [Training(bags[i % 4 :: 4] + bags[(i + 1) % 4 :: 4], seed=i) for i in range(n_networks)]

    def on_step(n_patches: int) -> None:
        synchronise(device)
        counts.append(n_patches)
        times.append(time.perf_counter())

    fit_population(trainings, config=config, device=device, on_step=on_step)
    begin = len(counts) // 3
    per_s = sum(counts[begin + 1 :]) / (times[-1] - times[begin])
    flop_per_s = per_s * flop_per_patch(bags[0].instances.shape[1])
    share = flop_per_s / matmul_flop_per_s(device)
    print(
        f"{n_networks} networks at once on {device.name}: {per_s:,.0f} patches/s, {flop_per_s / 1e12:.3f} "
        f"TFLOP/s, {share:.1%} of a large matrix product"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="the colon set in its original layout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="of a population")
    parser.add_argument("--population", type=int, metavar="N", help="train N networks at once instead")
    options = parser.parse_args()
    bags = colon_bags(options.data)
    if options.population:
        measure_population(bags, n_networks=options.population, device=find_device(options.device))
        return
    patches = sum(len(bag) for bag in bags)
    device = find_device("cpu")
    open_config = ModelConfig(network=NetworkConfig(), training=TrainingConfig(epochs=1, lr=5e-5))
    config = resolve_config(open_config, kind="pixels")
    torch.manual_seed(0)
    plain = PlainNetwork()
    optimiser = torch.optim.Adam(plain.parameters(), lr=5e-5, weight_decay=5e-4)
    fit(bags[:4], config=config, device=device)  # warm up
    times: dict[str, list[float]] = {"plain": [], "before": [], "hardmil": []}
    for _ in range(options.rounds):
        times["plain"].append(seconds(plain_epoch, bags, plain, optimiser))
        with patch.object(network, "CountedDropout", nn.Dropout):
            times["before"].append(seconds(fit, bags, config=config, device=device))
        times["hardmil"].append(seconds(fit, bags, config=config, device=device))
    rates = {name: patches / statistics.median(found) for name, found in times.items()}
    ratios = {
        name: statistics.median(p / h for p, h in zip(times[name], times["hardmil"], strict=True))
        for name in ("plain", "before")
    }
    where = "colon set" if options.data else "noise in the shape of the colon set"
    arithmetic = "bfloat16" if device.bfloat16 else "float32"
    print(
        f"{where}: {len(bags)} bags, {patches} patches per epoch, {options.rounds} rounds, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"plain loop     {rates['plain']:8.0f} patches/s (float32); hardmil {ratios['plain']:.2f} times")
    print(f"torch dropout  {rates['before']:8.0f} patches/s ({arithmetic}); {ratios['before']:.2f} times")
    print(f"hardmil        {rates['hardmil']:8.0f} patches/s ({arithmetic})")


if __name__ == "__main__":
    main()
