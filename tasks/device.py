"""Which device and precision the training uses, and why."""

from dataclasses import dataclass
from typing import Literal

import torch

from tasks.config import Train
from tasks.errors import InputError

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


@dataclass(frozen=True)
class Device:
    """A Fabric accelerator and precision, and the reason for both."""

    accelerator: str
    precision: Precision
    reason: str

    @property
    def hardware(self) -> str:
        """The name of the GPU, or `cpu`. Results of different GPU models differ in rounding."""
        return torch.cuda.get_device_name() if self.accelerator == "cuda" else self.accelerator


def best_gpu() -> str | None:
    """The GPU that torch can use here, by name; None without one."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return "Apple's GPU" if torch.backends.mps.is_available() else None


def choose_device(params: Train) -> Device:
    """The device that `params` requests, or the best available one for `auto`.

    Raises:
        InputError: the requested device is not available, or does not support the precision.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if params.device == "auto":
        accelerator = next(name for name, found in available.items() if found)
        reason = f"{accelerator} (the best device torch {torch.__version__} finds here)"
    elif available[params.device]:
        accelerator, reason = params.device, f"{params.device} (requested)"
    else:
        found = ", ".join(name for name, yes in available.items() if yes)
        raise InputError(
            f"train.device is {params.device}, which torch {torch.__version__} does not find on "
            f"this machine; it finds {found}. Set train.device to one of these or to auto."
        )
    if params.precision == "16-mixed" and accelerator != "cuda":
        raise InputError(
            f"train.precision is 16-mixed, which needs a CUDA device; the device is {accelerator}. "
            "Set train.precision to bf16-mixed, 32-true or auto."
        )
    if params.precision != "auto":
        return Device(
            accelerator, params.precision, f"{reason}, precision {params.precision} (requested)"
        )
    if accelerator == "cuda" and torch.cuda.is_bf16_supported():
        return Device(accelerator, "bf16-mixed", f"{reason}, precision bf16-mixed (supported)")
    return Device(accelerator, "32-true", f"{reason}, precision 32-true (the safe default)")


def devices_here(params: Train, device: Device) -> int:
    """How many devices, and so processes, of this machine train together.

    Raises:
        InputError: it has fewer GPUs than `params` request.
    """
    most = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.accelerator)
    if params.devices == "auto":
        return most or 1
    if most is not None and params.devices > most:
        raise InputError(
            f"train.devices is {params.devices}, but torch finds {most} of the kind "
            f"{device.accelerator} here. Set train.devices to at most {most} or to auto, or "
            "train.device to cpu."
        )
    return params.devices
