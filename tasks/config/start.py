"""What `train.init_from` may name: a registered version, or a file of weights."""

SUFFIX = ".safetensors"
PICKLE = (
    "is a pickle, as PyTorch writes it. It can run code when it is opened, so it is not read. "
    "Convert it once, where that does no harm: open it with torch and weights_only=True, and write "
    "its tensors with safetensors.torch.save_file. docs/training.md has the lines"
)
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")


def is_weights_file(init_from: str) -> bool:
    """Whether it is the path of a file, and not a reference to a version: the ending decides.

    So a model may be called `a.safetensors`, if its alias or number is given, but no alias may.
    """
    return init_from.endswith(SUFFIX)


def refuse_other_files(init_from: str) -> None:
    """Raises `ValueError` for the path of a file that is not in the format safetensors."""
    if init_from.endswith(_PICKLES):
        raise ValueError(f"{init_from} {PICKLE}")
    if "/" in init_from and not init_from.endswith(SUFFIX):
        raise ValueError(
            f"{init_from} is neither a registered version (NAME, NAME@ALIAS or NAME:VERSION) nor "
            f"the path of a {SUFFIX} file"
        )
