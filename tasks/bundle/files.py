"""Bundle: the files that are registered as one version, and their names.

A prepared dataset and a checkpoint have some of these files too, with the same names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MODEL = "model.onnx"
SIGNATURE = "signature.json"
TOKENIZER = "tokenizer.json"
"""Only for models of text."""
WEIGHTS = "weights.safetensors"
"""Weights of the PyTorch network, for `train.init_from`."""
ARCHITECTURE = "architecture.json"
PROFILE = "profile.json"
EVALUATION = "evaluation.json"
CARD = "card.md"
HISTORY = "history.csv"
"""Added at registration, like `LINEAGE`."""
LINEAGE = "lineage.json"
STUDY = "study.json"
"""Added at registration, if `modelmint tune` has found the parameters."""

# The files that influence predictions. The digest of a version covers only these.
IDENTITY = frozenset({MODEL, SIGNATURE, TOKENIZER})
# The files that every prediction and evaluation needs.
SERVED = (MODEL, SIGNATURE)
# The files that `train.init_from` reads.
PRETRAINED = (WEIGHTS, SIGNATURE, TOKENIZER)


@dataclass(frozen=True)
class Bundle:
    """Paths of a bundle's files by name; in the artifact store, they are in different folders."""

    files: Mapping[str, Path]

    @classmethod
    def at(cls, folder: Path) -> "Bundle":
        """A bundle in a folder; the files need not exist."""
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
            STUDY,
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

    @property
    def study(self) -> Path:
        return self.files[STUDY]


def lacking(names: Iterable[str]) -> list[str]:
    """The files of `SERVED` that are not in `names`."""
    present = set(names)
    return [name for name in SERVED if name not in present]
