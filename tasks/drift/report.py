"""`drift.json`: the counters of a job beside those of its reference, and what follows from them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks import formats
from tasks.drift.estimate import Estimate
from tasks.errors import InputError

DRIFT = "drift.json"
SHOWN = 3
Verdict = Literal["none", "watch", "drifted"]
VERDICTS: tuple[Verdict, ...] = ("none", "watch", "drifted")
"""From the least to the most."""


@dataclass(frozen=True)
class Compared:
    """A measure of a job, compared with its reference."""

    name: str
    """Such as `value`, `length` or, for a share of the rows, `filled`."""
    now: list[int]
    """Rows of the job in each bin; of a share, rows without and with it."""
    then: list[int]
    """Rows of the reference."""
    edges: list[float] | None = None
    """Bin i + 1 begins at edge i and includes it; bin 0 is below all edges."""
    offset: float = 0.0
    """To be added to the edges for display."""
    labels: list[str] | None = None
    """A bin each, and one more for all others."""
    psi: float = 0.0
    excess: float = 0.0
    js: float = 0.0
    ks: float | None = None
    p: float = 1.0
    """The p-value, corrected for all measures of the job; see `tasks.drift.statistics`."""
    verdict: Verdict | None = None
    """None if the job has too few rows."""


@dataclass(frozen=True)
class Part:
    """A column, or the predictions: its measures, and its verdict, which is their worst."""

    name: str
    measures: list[Compared]
    """Those that moved most first."""
    verdict: Verdict | None = None

    def __str__(self) -> str:
        if not self.measures:
            return self.name
        most = self.measures[0]
        which = "" if most.name == "value" else f" ({most.name})"
        return f"{self.name}{which} PSI {most.psi:.2g}"


@dataclass(frozen=True)
class DriftReport:
    """What `drift.json` says of a job."""

    model: str
    digest: str
    layout: str
    """See `tasks.drift.reference.Reference.layout`."""
    against: str
    """What the job is compared with, in words."""
    rows: int
    """Predicted rows of the job."""
    verdict: Verdict | None
    reason: str | None
    """Why there is no verdict."""
    columns: list[Part]
    """Those that moved most first."""
    predictions: Part | None
    not_compared: dict[str, str] = field(default_factory=dict)
    """Why a column, or the predictions (an empty name), is not compared."""
    limits: dict[str, float] = field(default_factory=dict)
    """The thresholds of the verdicts."""
    accuracy: Estimate | None = None
    """As it is estimated without labels."""
    no_accuracy: str | None = None
    """Why it is not estimated."""
    format: int = formats.DRIFT

    @property
    def parts(self) -> list[Part]:
        """The columns, and the predictions at the end."""
        return [*self.columns, *([self.predictions] if self.predictions else [])]

    @property
    def moved(self) -> list[Part]:
        """What is not as it was, most first; the predictions at the end."""
        return [part for part in self.parts if part.verdict in ("watch", "drifted")]

    def summary(self) -> dict[str, Any]:
        """What the manifest and the commands say: the verdict, and up to three columns."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "moved": len(self.moved),
            "columns": [str(part) for part in self.moved[:SHOWN]],
            "not_compared": len(self.not_compared),
            "accuracy": self.accuracy and {**asdict(self.accuracy), "text": str(self.accuracy)},
        }

    def as_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "DriftReport":
        """From a document of any format up to this release's. Raises KeyError, TypeError."""
        predictions = document["predictions"]
        parts = [_part(part) for part in document["columns"]]
        found = {"columns": parts, "predictions": predictions and _part(predictions)}
        if estimate := document.get("accuracy"):
            found["accuracy"] = formats.record(Estimate, estimate)
        report: DriftReport = formats.record(cls, {**document, **found})
        return report

    @classmethod
    def read(cls, path: Path) -> "DriftReport":
        """Raises `InputError` if this release cannot read the file."""
        try:
            return cls.of(formats.read(path, formats.DRIFT))
        except InputError:
            raise
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path} is no report of drift that can be read: {error!r}") from error


def _part(document: Mapping[str, Any]) -> Part:
    measures = [formats.record(Compared, measure) for measure in document["measures"]]
    part: Part = formats.record(Part, {**document, "measures": measures})
    return part


def sentence(summary: Mapping[str, Any] | None) -> str:
    """A summary in words: `drifted: age PSI 0.31, text (length) PSI 0.12 and 2 more`."""
    if summary is None:
        return "not measured"
    if summary["verdict"] is None:
        return f"not judged: {summary['reason']}"
    named, more = summary["columns"], summary["moved"] - len(summary["columns"])
    text = str(summary["verdict"])
    if named:
        text += f": {', '.join(named)}" + (f" and {more} more" if more else "")
    return text
