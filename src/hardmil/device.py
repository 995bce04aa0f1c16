"""Where a network runs, and in which precision."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from hardmil.errors import TrainingError

_KINDS = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class Device:
    """Where a network runs, and the precision in which instances are embedded."""

    name: str
    bfloat16: bool

    def autocast(self) -> AbstractContextManager[object]:
        """A context for bfloat16 where that was chosen; without effect otherwise."""
        kind = torch.device(self.name).type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.bfloat16)

    def receive(self, values: torch.Tensor) -> torch.Tensor:
        """The values on this device. A GPU goes on with its work while they travel."""
        if torch.device(self.name).type != "cuda":
            return values.to(self.name)
        # Only from pinned memory does the host not wait for the device.
        return values.pin_memory().to(self.name, non_blocking=True)


def find_device(name: str, *, precision: str = "auto") -> Device:
    """The device with this name; `auto` is the fastest one available.

    Raises:
        TrainingError: If this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        if torch.device(name).type not in _KINDS:
            raise RuntimeError("not a kind of device that networks run on here")
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise TrainingError(
            f"device {name}: not usable on this machine ({str(error).splitlines()[0]}); expected auto, cpu, "
            "cuda or mps; run with --device cpu"
        ) from error
    return Device(name, precision == "bfloat16" or (precision == "auto" and _is_fast_at_bfloat16(name)))


def _is_fast_at_bfloat16(name: str) -> bool:
    if torch.device(name).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probe: Callable[[], bool] | None = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return torch.device(name).type == "cpu" and probe is not None and probe()
