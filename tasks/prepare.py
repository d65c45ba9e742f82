"""prepare: raw data, validated and split, becomes the prepared dataset."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from tasks import sources
from tasks.config import Prepare
from tasks.dataset import SPLITS, Split, write_split
from tasks.errors import InputError
from tasks.signature import Signature, Tensor
from tasks.sources.raw import Raw

HISTOGRAM_BINS = 16


@dataclass(frozen=True)
class PrepareReport:
    """Rows found, dropped and written."""

    rows_in: int
    dropped_missing: int
    dropped_duplicates: int
    rows: dict[str, int]

    def __str__(self) -> str:
        splits = ", ".join(f"{name} {rows}" for name, rows in self.rows.items())
        return (
            f"prepared {sum(self.rows.values())} of {self.rows_in} rows ({splits}); dropped "
            f"{self.dropped_missing} incomplete and {self.dropped_duplicates} duplicate"
        )


def prepare(params: Prepare, *, root: Path, prepared: Path) -> PrepareReport:
    """Read, validate, clean, split by seed with stratification, and write to `prepared`.

    Nothing is written before everything was checked.

    Raises:
        InputError: the raw data breaks a rule; says which one, at which row, and what to do.
    """
    raw = sources.read(params.source, root)
    if not len(raw):
        raise InputError(f"{raw.where} holds no rows")
    complete = _complete(raw, params)
    kept, conflicting = _unique(raw, complete, params)
    classes = _classes(raw, kept)
    position = {label: number for number, label in enumerate(classes)}
    labels = np.array([position[label] for label in raw.labels[kept]], np.int64)
    rows = _split(labels, params, classes, raw.where)
    splits = {
        name: Split(kept[r], {n: a[kept[r]] for n, a in raw.inputs.items()}, labels[r])
        for name, r in rows.items()
    }
    signature = _signature(raw, classes)
    report = PrepareReport(
        rows_in=len(raw),
        dropped_missing=len(raw) - len(complete),
        dropped_duplicates=len(complete) - len(kept),
        rows={name: len(split) for name, split in splits.items()},
    )
    prepared.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        write_split(split, signature, prepared / f"{name}.arrow")
    signature.write(prepared / "signature.json")
    _write_json(prepared / "profile.json", _profile(splits["train"], classes))
    _write_json(
        prepared / "report.json",
        {
            "parameters": params.model_dump(),
            "rows_in": report.rows_in,
            "dropped": {
                "missing": report.dropped_missing,
                "duplicates": report.dropped_duplicates,
            },
            "rows_with_conflicting_labels": conflicting,
            "rows": report.rows,
            "class_balance": {
                name: _balance(split.labels, classes) for name, split in splits.items()
            },
            "rows_of_validation_and_test_also_in_train": _leaked(splits),
        },
    )
    return report


def _complete(raw: Raw, params: Prepare) -> NDArray[np.int64]:
    """Numbers of the rows that have a label and only finite values."""
    good = np.array([label is not None for label in raw.labels])
    for array in raw.inputs.values():
        if array.dtype.kind == "f":
            good &= np.isfinite(array.reshape(len(raw), -1)).all(axis=1)
    if params.missing == "refuse" and not good.all():
        row = int(np.argmin(good))
        what = "no label" if raw.labels[row] is None else "a missing, NaN or infinite value"
        raise InputError(
            f"{raw.describe(row)}: {what} ({int((~good).sum())} such rows in all). "
            "Mend the data, or set prepare.missing to drop."
        )
    if not good.any():
        raise InputError(f"{raw.where}: no row has a label and only finite values")
    return np.flatnonzero(good)


def _unique(raw: Raw, rows: NDArray[np.int64], params: Prepare) -> tuple[NDArray[np.int64], int]:
    """Rows without exact copies, and how many rows share their inputs with another label."""
    labels_of: dict[bytes, dict[str, int]] = {}
    kept: list[int] = []
    for row in rows.tolist():
        key = b"".join(array[row].tobytes() for array in raw.inputs.values())
        seen = labels_of.setdefault(key, {})
        if (label := raw.labels[row]) not in seen:
            seen[label] = row
            kept.append(row)
        elif params.duplicates == "refuse":
            raise InputError(
                f"{raw.describe(row)} is an exact copy of row {seen[label] + raw.first_row}. "
                "Remove one of them, or set prepare.duplicates to drop."
            )
    conflicting = sum(len(seen) for seen in labels_of.values() if len(seen) > 1)
    return np.array(kept, np.int64), conflicting


def _classes(raw: Raw, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """Labels in the order a reader expects: 2 before 10, words by alphabet."""
    counts = Counter(raw.labels[rows].tolist())
    if len(counts) < 2:
        raise InputError(
            f"{raw.where}: every row has the label {next(iter(counts))!r}; "
            "a classifier needs at least two classes"
        )
    rare = sorted(label for label, count in counts.items() if count < len(SPLITS))
    if rare:
        row = next(r for r in rows.tolist() if raw.labels[r] == rare[0])
        raise InputError(
            f"{raw.describe(row)}: the label {rare[0]!r} has {counts[rare[0]]} distinct rows; "
            f"every class needs at least {len(SPLITS)}, one for each of {', '.join(SPLITS)}. "
            f"Add rows or remove the class (such classes: {', '.join(map(repr, rare))})."
        )
    numeric = all(re.fullmatch(r"-?\d+", label) for label in counts)
    return tuple(sorted(counts, key=int if numeric else None))


def _split(
    labels: NDArray[np.int64], params: Prepare, classes: tuple[str, ...], where: str
) -> dict[str, NDArray[np.int64]]:
    """Row numbers of each split, ascending; every class stands in every split."""
    every = np.arange(len(labels))
    try:
        rest, test = train_test_split(
            every, test_size=params.test, stratify=labels, random_state=params.seed
        )
        train, validation = train_test_split(
            rest,
            test_size=params.validation / (1 - params.test),
            stratify=labels[rest],
            random_state=params.seed,
        )
    except ValueError as error:
        raise InputError(f"{where}: {len(labels)} rows cannot be split: {error}") from error
    rows = {"train": train, "validation": validation, "test": test}
    for name, numbers in rows.items():
        absent = np.setdiff1d(np.arange(len(classes)), labels[numbers])
        if len(absent):
            raise InputError(
                f"{where}: the {name} split has no row of the class {classes[absent[0]]!r}, which "
                f"has {int((labels == absent[0]).sum())} rows in all. Add rows of it, or enlarge "
                "prepare.test or prepare.validation."
            )
    return {name: np.sort(numbers) for name, numbers in rows.items()}


def _signature(raw: Raw, classes: tuple[str, ...]) -> Signature:
    return Signature(
        inputs=tuple(
            Tensor(name=name, dtype=str(array.dtype), shape=array.shape[1:])  # type: ignore[arg-type]
            for name, array in raw.inputs.items()
        ),
        outputs=tuple(
            Tensor(name=name, dtype="float32", shape=(len(classes),))
            for name in ("logits", "probabilities")
        ),
        classes=classes,
    )


def _profile(train: Split, classes: tuple[str, ...]) -> dict[str, Any]:
    """What the training split looks like: normalisation constants, and a reference for drift."""
    inputs = {}
    for name, array in train.inputs.items():
        # The last axis holds channels; statistics go over rows and all other axes.
        values = array.reshape(-1, array.shape[-1]).astype(np.float64)
        counts, edges = np.histogram(values, bins=HISTOGRAM_BINS)
        inputs[name] = {
            "mean": values.mean(axis=0).tolist(),
            "std": values.std(axis=0).tolist(),
            "min": float(values.min()),
            "max": float(values.max()),
            "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
        }
    return {"rows": len(train), "inputs": inputs, "label": _balance(train.labels, classes)}


def _balance(labels: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    return dict(zip(classes, counts, strict=True))


def _leaked(splits: dict[str, Split]) -> int:
    """Rows of the other splits whose inputs also stand in `train` (under another label)."""

    def keys(split: Split) -> list[bytes]:
        return [
            b"".join(array[row].tobytes() for array in split.inputs.values())
            for row in range(len(split))
        ]

    train = set(keys(splits["train"]))
    return sum(key in train for name in ("validation", "test") for key in keys(splits[name]))


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
