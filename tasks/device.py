"""Which device and precision training uses, and why."""

from dataclasses import dataclass
from typing import Literal

import torch

from tasks.config import Train
from tasks.errors import InputError

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


@dataclass(frozen=True)
class Device:
    """A Fabric accelerator and precision with the reason for each."""

    accelerator: str
    precision: Precision
    reason: str

    @property
    def hardware(self) -> str:
        """What computes: another kind of GPU rounds otherwise."""
        return torch.cuda.get_device_name() if self.accelerator == "cuda" else self.accelerator


def choose_device(params: Train) -> Device:
    """The device that `params` asks for, or the best there is.

    Raises:
        InputError: the device asked for is not there, or cannot compute in that precision.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if params.device == "auto":
        accelerator = next(name for name, found in there.items() if found)
        reason = f"{accelerator} (the best device torch {torch.__version__} finds here)"
    elif there[params.device]:
        accelerator, reason = params.device, f"{params.device} (asked for)"
    else:
        found = ", ".join(name for name, yes in there.items() if yes)
        raise InputError(
            f"train.device asks for {params.device}, which torch {torch.__version__} does not find "
            f"here; it finds {found}. Set train.device to one of these or to auto."
        )
    if params.precision == "16-mixed" and accelerator != "cuda":
        raise InputError(
            f"train.precision asks for 16-mixed, which needs a CUDA device and not {accelerator}; "
            "set it to bf16-mixed, 32-true or auto"
        )
    if params.precision != "auto":
        return Device(
            accelerator, params.precision, f"{reason}, precision {params.precision} (asked for)"
        )
    if accelerator == "cuda" and torch.cuda.is_bf16_supported():
        return Device(accelerator, "bf16-mixed", f"{reason}, precision bf16-mixed (supported)")
    return Device(accelerator, "32-true", f"{reason}, precision 32-true (no faster one is safe)")
