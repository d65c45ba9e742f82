"""What a batch job is asked to write. Part of its identity: other options make another job."""

from dataclasses import dataclass
from typing import Literal

from tasks.bundle.signature import Signature
from tasks.dataset import KEY
from tasks.errors import InputError, SetupError
from tasks.serving import MAX_BAD

Form = Literal["parquet", "csv", "jsonl"]
OWN = (KEY, "prediction", "score")
"""Columns that predictions have by themselves."""


@dataclass(frozen=True)
class Options:
    """How predictions are written; all of it can be JSON."""

    probabilities: bool = False
    """Whether there is a column for the probability of each class."""
    threshold: tuple[str, float] | None = None
    """A class and the probability from which on it is predicted; of two classes only."""
    keep: tuple[str, ...] = ()
    """Columns of the input that are passed through."""
    form: Form = "parquet"
    partition_by: tuple[str, ...] = ()
    """Columns of the output whose values become folders, COLUMN=VALUE."""

    def check(self, signature: Signature, prefix: str = "--") -> None:
        """Check that the model can give what is asked for; options have that prefix in messages.

        Raises:
            SetupError: it cannot, or a column would be there twice; names the option.
        """
        if self.probabilities and not signature.classifies:
            raise SetupError(
                f"the model's task is {signature.task.replace('_', ' ')}, so there are no classes "
                f"to give probabilities of; leave out {prefix}probabilities"
            )
        self._check_threshold(signature)
        taken = [*OWN, *(f"probability_{name}" for name in signature.classes)]
        for name in self.keep:
            if name in taken or self.keep.count(name) > 1:
                raise SetupError(
                    f"--keep {name}: the predictions have a column of that name already; rename "
                    "it in the input, or leave it out"
                )
        for name in self.partition_by:
            if self.partition_by.count(name) > 1:
                raise SetupError(f"--partition-by {name}: it is named twice; name it once")
            if name not in (*self.keep, "prediction"):
                raise SetupError(
                    f"--partition-by {name}: only prediction and columns that --keep names can be "
                    f"used; add --keep {name}"
                )

    def _check_threshold(self, signature: Signature) -> None:
        if self.threshold is None:
            return
        name, share = self.threshold
        if len(signature.classes) != 2:
            number = len(signature.classes) or "no"
            raise SetupError(
                f"--threshold is for models of two classes, and this one has {number}; leave it out"
            )
        if name not in signature.classes:
            raise SetupError(
                f"--threshold {name}={share:g}: the classes are {', '.join(signature.classes)}"
            )
        if not 0 < share <= 1:
            raise SetupError(
                f"--threshold {name}={share:g}: a probability above 0, up to 1, is expected"
            )


def parse_threshold(text: str) -> tuple[str, float]:
    """CLASS=P. Raises `InputError` for anything else."""
    name, found, share = text.rpartition("=")
    try:
        if found and name:
            return name, float(share)
    except ValueError:
        pass
    raise InputError(f"--threshold {text}: CLASS=P is expected, as in spam=0.8")


@dataclass(frozen=True)
class BadLimit:
    """How many rows may be bad before a job fails: a share of all rows, or a number of them."""

    text: str
    share: float | None
    number: int | None

    @classmethod
    def parse(cls, text: str) -> "BadLimit":
        """`0.1%`, `0.001` (a share below 1), `25` (a number of rows), `0` or `100%`.

        Raises:
            InputError: it is none of these.
        """
        plain = text.strip()
        try:
            if plain.endswith("%"):
                share = float(plain[:-1]) / 100
                if 0 <= share <= 1:
                    return cls(plain, share, None)
            elif plain.isdecimal():
                return cls(plain, None, int(plain))
            elif 0 <= (share := float(plain)) < 1:
                return cls(plain, share, None)
        except ValueError:
            pass
        raise InputError(
            f"--max-bad {text}: a share such as 0.1% or 0.001, or a whole number of rows, is "
            "expected"
        )

    def rows(self, total: int) -> int:
        """How many of `total` rows may be bad."""
        if self.number is not None:
            return self.number
        assert self.share is not None
        # 0.1 % of 3,000 rows is 3, though 3000 * 0.001 in floating point may be 2.999...
        return int(self.share * total + 1e-9)


DEFAULT_LIMIT = BadLimit.parse(MAX_BAD)
