"""prepare: validate, clean and split the raw data, and write the prepared dataset."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import formats, sources
from tasks.bundle.files import PROFILE
from tasks.config import Prepare
from tasks.dataset import REPORT
from tasks.errors import InputError
from tasks.preparing import copies, notices, splitting, targets
from tasks.preparing.cleaning import clean, complete
from tasks.preparing.fitting import Dataset, fit
from tasks.preparing.lengths import measure_lengths
from tasks.preparing.personal import hash_sensitive
from tasks.preparing.profile import distribution, profile
from tasks.preparing.rows import CleanColumn, Indices, PreparedRows
from tasks.preparing.types import column_kinds, log_lines
from tasks.preparing.writing import write
from tasks.problems import PROBLEMS
from tasks.problems.targets import ClassTarget, class_numbers
from tasks.sources.raw import Raw


@dataclass(frozen=True)
class PrepareReport:
    """Rows found, dropped and written, and notices for the user."""

    rows_in: int
    dropped_missing: int
    dropped_duplicates: int
    rows: dict[str, int]
    notices: tuple[str, ...] = ()

    def __str__(self) -> str:
        splits = ", ".join(f"{name} {rows}" for name, rows in self.rows.items())
        first = (
            f"prepared {sum(self.rows.values())} of {self.rows_in} rows ({splits}); dropped "
            f"{self.dropped_missing} incomplete and {self.dropped_duplicates} duplicate"
        )
        return "\n".join([first, *(f"notice: {text}" for text in self.notices)])


def prepare(params: Prepare, *, root: Path, prepared: Path) -> PrepareReport:
    """Read, validate, clean and split the raw data, and replace the folder `prepared`.

    Everything is checked before anything is written. Tokenizer, categories and fill values are
    fitted on the training split only.

    Raises:
        InputError: the raw data breaks a rule; names the rule and the row, and says what to do.
    """
    print(f"reading {params.source.path}", flush=True)
    raw = sources.read(params.source, root, _reserved(params))
    if not len(raw):
        raise InputError(f"{raw.where} has no rows")
    for what, count in raw.changed.items():
        print(f"{count} images: {what}", flush=True)
    types = column_kinds(raw, params)
    print(*log_lines(types), f"checking and splitting {len(raw)} rows", sep="\n", flush=True)
    hashes = hash_sensitive(raw, params, root)
    columns, full, order = _read_columns(raw, params)
    found = copies.find_copies(raw, full, params)
    given = order.take(full.keys).given
    rows, repeats = copies.without_copies(raw, full, found, given, params)
    labels, classes, positions = _split(raw, rows, repeats, order, params)
    dataset = fit(
        raw, {name: rows.take(position) for name, position in positions.items()}, classes, params
    )

    def describe(row: int) -> str:
        # Relative, because the report is part of the dataset, which is equal on every machine.
        return raw.describe(row).removeprefix(f"{root}/")

    in_train = _in_train(repeats, positions)
    report = PrepareReport(
        rows_in=len(raw),
        dropped_missing=len(raw) - len(full),
        dropped_duplicates=len(full) - len(rows),
        rows={name: len(split) for name, split in dataset.splits.items()},
        notices=_notices(raw, full, rows, order, params, in_train),
    )
    content: dict[str, Any] = {
        "format": formats.REPORT,
        "parameters": params.model_dump(),
        **types,
        "notices": list(report.notices),
        "rows_in": report.rows_in,
        "dropped": {"missing": report.dropped_missing, "duplicates": report.dropped_duplicates},
        "rows": report.rows,
        "missing_values": {n: int(c.missing.sum()) for n, c in columns.items() if c.missing.any()},
        "sensitive_columns": dict.fromkeys(params.sensitive, params.sensitive_rule),
        **({"images_changed": dict(raw.changed)} if raw.changed else {}),
        "duplicates": {
            "rule": copies.duplicates_rule(raw, params),
            "dropped": report.dropped_duplicates,
            **found.counts(),
        },
        "test_rows_also_in_train": in_train,
        **copies.conflicts(rows, repeats, describe),
        "rows_of_validation_and_test_also_in_train": copies.count_in_train(
            repeats.features, positions, "validation", "test"
        ),
    }
    lengths, described = measure_lengths(dataset)
    content |= _described(dataset) | described
    if params.label_noise:
        content["label_noise"] = _suspects(rows, labels, dataset, params, describe)
    documents = {PROFILE: profile(dataset, lengths), REPORT: content}
    write(dataset, hashes, documents, prepared)
    return report


def _in_train(repeats: copies.Copies, positions: dict[str, Indices]) -> dict[str, int]:
    """Count test rows that have an equal row in training, and print the counts."""
    rows, equal, whole = (
        len(positions["test"]),
        copies.count_in_train(repeats.features, positions, "test"),
        copies.count_in_train(repeats.whole, positions, "test"),
    )
    print(
        f"{equal} of {rows} test rows have an equal row in training, {whole} of them with the same "
        "target",
        flush=True,
    )
    return {"test_rows": rows, "equal_features": equal, "equal_features_and_target": whole}


def _notices(
    raw: Raw,
    full: PreparedRows,
    rows: PreparedRows,
    order: splitting.Order,
    params: Prepare,
    in_train: dict[str, int],
) -> tuple[str, ...]:
    """Notices for the user. `full` are the complete rows, `rows` those left by the rules."""
    steps = [
        (f"prepare.missing: {params.missing}", np.arange(len(raw)), full.keys),
        (f"prepare.duplicates: {copies.duplicates_rule(raw, params)}", full.keys, rows.keys),
    ]
    found = [
        text
        for rule, before, after in steps
        for text in notices.removal_notices(rule, before, after, len(raw), order.given)
    ]
    return *found, *notices.seen_notices(in_train["test_rows"], in_train["equal_features"])


def _reserved(params: Prepare) -> list[str]:
    """Columns that are never features."""
    named = [params.split_column, params.group, params.time, *params.sensitive]
    return [name for name in named if name]


def _read_columns(
    raw: Raw, params: Prepare
) -> tuple[dict[str, CleanColumn], PreparedRows, splitting.Order]:
    """The used columns by name, the complete rows, and what decides the split of all rows."""
    features, target = clean(raw), targets.read_target(raw, params)
    order, others = splitting.read_order(raw, params)
    if target is not None:
        others[str(raw.target)] = target
    keys = complete(raw, features, others, params.missing)
    table = pa.table({name: column.values for name, column in features.items()})
    every = PreparedRows(np.arange(len(raw)), table, target.values if target else None)
    return features | others, every.take(keys), order


def _split(
    raw: Raw, rows: PreparedRows, repeats: copies.Copies, order: splitting.Order, params: Prepare
) -> tuple[Indices | None, tuple[str, ...], dict[str, Indices]]:
    """The class of each row (N,), the class names, and the rows of each split.

    Without classes, None and no names. Each class needs some rows; copies that must stay in one
    split count as one row.
    """
    labels: Indices | None = None
    classes: tuple[str, ...] = ()
    together = copies.duplicates_rule(raw, params) == "group"
    distinct = not copies.count_repeated(repeats.whole)
    if isinstance(PROBLEMS[params.task].target, ClassTarget):
        counted = copies.distinct(rows, repeats) if together else rows
        classes = targets.class_names(raw, counted, distinct=together or distinct)
        labels = class_numbers(rows.target, classes)
    order = order.take(rows.keys)
    if together and copies.count_repeated(repeats.features):
        order = replace(order, copies=repeats.features)
    positions = splitting.split(raw, rows.keys, labels, classes, order, params, distinct=distinct)
    return labels, classes, positions


def _described(dataset: Dataset) -> dict[str, Any]:
    """The part of the report about features and targets."""
    splits, signature = dataset.splits, dataset.signature
    content: dict[str, Any] = {}
    if (target := signature.problem.target) is not None:
        content[target.reported_as] = {
            split: distribution(rows, signature) for split, rows in splits.items()
        }
    comparable = [column.name for column in signature.columns if not column.equal_is_copy]
    if comparable:
        train = splits["train"].features.select(comparable)
        content["constant_columns"] = copies.constant_columns(train)
        content["identical_columns"] = copies.identical_columns(train)
    return content


def _suspects(
    rows: PreparedRows,
    labels: Indices | None,
    dataset: Dataset,
    params: Prepare,
    describe: Callable[[int], str],
) -> dict[str, Any]:
    if labels is None:
        return {"skipped": f"a {params.task} has no labels to doubt"}
    # Imported late, because most runs do not need scikit-learn's models.
    from tasks.preparing import noise

    print(f"looking for wrong labels in {min(len(rows), noise.MOST_ROWS)} rows", flush=True)
    return noise.find_suspects(rows, labels, dataset.signature, params, describe)
