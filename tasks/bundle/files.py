"""Bundle: the files that are registered as one version, and their names.

A prepared dataset and a checkpoint hold some of these files as well, under the same names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MODEL = "model.onnx"
SIGNATURE = "signature.json"
TOKENIZER = "tokenizer.json"
"""Only of models of text."""
WEIGHTS = "weights.safetensors"
"""Of the PyTorch network, to start other trainings from."""
ARCHITECTURE = "architecture.json"
PROFILE = "profile.json"
EVALUATION = "evaluation.json"
CARD = "card.md"
HISTORY = "history.csv"
"""Added when the bundle is registered, as is the next."""
LINEAGE = "lineage.json"

# The files that decide a prediction, and so make the digest; the rest is evidence.
IDENTITY = frozenset({MODEL, SIGNATURE, TOKENIZER})
# What a prediction or an evaluation cannot do without.
SERVED = (MODEL, SIGNATURE)
# What a training that starts from a version reads of it.
PRETRAINED = (WEIGHTS, SIGNATURE, TOKENIZER)


@dataclass(frozen=True)
class Bundle:
    """Paths of a bundle's files by name; a store keeps each of them somewhere else."""

    files: Mapping[str, Path]

    @classmethod
    def at(cls, folder: Path) -> "Bundle":
        """A bundle in a folder, whether its files exist yet or not."""
        names = (
            MODEL,
            SIGNATURE,
            TOKENIZER,
            WEIGHTS,
            ARCHITECTURE,
            PROFILE,
            EVALUATION,
            CARD,
            HISTORY,
            LINEAGE,
        )
        return cls({name: folder / name for name in names})

    @property
    def model(self) -> Path:
        return self.files[MODEL]

    @property
    def signature(self) -> Path:
        return self.files[SIGNATURE]

    @property
    def tokenizer(self) -> Path:
        return self.files[TOKENIZER]

    @property
    def weights(self) -> Path:
        return self.files[WEIGHTS]

    @property
    def architecture(self) -> Path:
        return self.files[ARCHITECTURE]

    @property
    def profile(self) -> Path:
        return self.files[PROFILE]

    @property
    def evaluation(self) -> Path:
        return self.files[EVALUATION]

    @property
    def card(self) -> Path:
        return self.files[CARD]

    @property
    def history(self) -> Path:
        return self.files[HISTORY]

    @property
    def lineage(self) -> Path:
        return self.files[LINEAGE]


def lacking(names: Iterable[str]) -> list[str]:
    """Which of the files that every prediction needs are not among `names`."""
    there = set(names)
    return [name for name in SERVED if name not in there]
