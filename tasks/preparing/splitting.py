"""Splits rows into training, validation and test."""

import math
import warnings
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, train_test_split

from tasks.config import Prepare
from tasks.dataset import SPLITS
from tasks.errors import InputError
from tasks.files.convert import convert
from tasks.files.infer import typed
from tasks.preparing.rows import CleanColumn, Indices, Mask, cell, is_number
from tasks.sources.raw import Raw

# Stratified group splits are unions of folds; this many folds at most. More folds approximate the
# requested share better.
MOST_FOLDS = 20


@dataclass(frozen=True)
class Order:
    """What decides the split of each row (N,) besides the seed; None if it does not apply.

    `given` is the split itself. Rows with equal `groups`, or with equal `copies`, stay in one
    split. `times` orders the rows.
    """

    given: NDArray[np.object_] | None = None
    groups: Indices | None = None
    times: NDArray[np.generic] | None = None
    copies: Indices | None = None

    def take(self, keys: Indices) -> "Order":
        """The order of the rows `keys`."""
        return Order(
            None if self.given is None else self.given[keys],
            None if self.groups is None else self.groups[keys],
            None if self.times is None else self.times[keys],
            None if self.copies is None else self.copies[keys],
        )


def read_order(raw: Raw, params: Prepare) -> tuple[Order, dict[str, CleanColumn]]:
    """What decides the split, and the column it was read from, by name.

    Raises:
        InputError: a value of that column is invalid; names the row.
    """
    if params.split_column:
        names = _split_names(raw, params.split_column)
        given = names.values.to_numpy(zero_copy_only=False)
        return Order(given=given), {params.split_column: names}
    if params.group:
        values = raw.table[params.group].combine_chunks()
        groups = CleanColumn.of(
            convert(values, "category", params.group, raw.describe, raw.reading)
        )
        codes = groups.values.dictionary_encode(null_encoding="encode").indices
        return Order(raw.split, groups=codes.to_numpy().astype(np.int64)), {params.group: groups}
    if params.time:
        times = _times(raw, params.time)
        # Rows without a time are refused or dropped later.
        return Order(raw.split, times=times.values.fill_null(0).to_numpy()), {params.time: times}
    return Order(raw.split), {}


def _split_names(raw: Raw, name: str) -> CleanColumn:
    if raw.split is not None:
        raise InputError(
            f"{raw.where} already has a test split, and prepare.split_column is {name!r}; remove "
            "one of them"
        )
    values = raw.table[name].combine_chunks()
    names = CleanColumn.of(convert(values, "category", name, raw.describe, raw.reading))
    strange = ~np.isin(names.values.fill_null(SPLITS[0]).to_numpy(zero_copy_only=False), SPLITS)
    if strange.any():
        row = int(np.argmax(strange))
        raise InputError(
            f"{cell(raw, row, name)}: {names.values[row].as_py()!r} is not a split; allowed: "
            f"{', '.join(SPLITS)}"
        )
    return names


def _times(raw: Raw, name: str) -> CleanColumn:
    """Times in microseconds, or the numbers of a numeric column."""
    values = raw.table[name].combine_chunks()
    if is_number(values.type):
        return CleanColumn.of_numbers(values)
    if pa.types.is_string(values.type):
        values = CleanColumn.of(values).values
        numbers = typed(values, raw.reading)
        if is_number(numbers.type):
            return CleanColumn.of_numbers(numbers)
    found = convert(values, "date", name, raw.describe, raw.reading)
    return CleanColumn.of(found.cast(pa.int64()))


def split(
    raw: Raw,
    keys: Indices,
    labels: Indices | None,
    classes: tuple[str, ...],
    order: Order,
    params: Prepare,
    *,
    distinct: bool,
) -> dict[str, Indices]:
    """The positions in `keys` of each split, ascending. Every class is in every split.

    `keys` (N,) are rows of the raw data, and `order` belongs to them. `labels` (N,) are indices
    into `classes`, for a classification. `distinct` says that there are no copies, for messages.

    Raises:
        InputError: a split would be empty or without a class, or a group would be in two splits;
            says what to do.
    """
    every = np.arange(len(keys))
    given = order.given
    share = params.validation
    found = order
    if order.groups is not None and order.copies is not None:
        joined = _joined(order.groups, order.copies)
        found = replace(order, groups=joined)
        if len(np.unique(order.groups)) > len(np.unique(joined)) == 1:
            raise InputError(
                f"{raw.where}: rows with the same features are in so many groups of "
                f"{params.group!r} that all groups would have to be in one split. Set "
                "prepare.duplicates to keep, which allows such rows in several splits and reports "
                "how many there are, or remove prepare.group."
            )
    try:
        if given is None:
            share = params.validation / (1 - params.test)
            rest, test = _carve(every, params.test, labels, found, params.seed)
        else:
            rest, test = every[given != "test"], every[given == "test"]
            _refuse_empty(raw, {"train": every[given == "train"], "test": test}, params)
            _refuse_crossing_groups(raw, rest, test, keys, order, params)
        if given is not None and (given == "validation").any():
            train, validation = every[given == "train"], every[given == "validation"]
        else:
            train, validation = _carve(rest, share, labels, found, params.seed)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{raw.where}: {len(keys)} complete{', distinct' * distinct} rows "
            f"cannot be split: {error}. {_remedy(raw, params, 'rows')}."
        ) from error
    rows = {"train": np.sort(train), "validation": np.sort(validation), "test": np.sort(test)}
    _refuse_empty(raw, rows, params)
    _refuse_absent_classes(raw, rows, labels, classes, params)
    return rows


def _carve(
    rows: Indices, share: float, labels: Indices | None, order: Order, seed: int
) -> tuple[Indices, Indices]:
    """Split `rows` into the rest and about `share` of them: the latest, whole groups, or random."""
    classes = None if labels is None else labels[rows]
    copies = None if order.copies is None else order.copies[rows]
    if copies is not None and len(np.unique(copies)) == len(rows):
        copies = None
    if order.times is not None:
        return _latest(rows, share, order.times[rows], copies)
    if order.groups is None and copies is not None:
        part = _whole_copies(
            np.zeros_like(rows) if classes is None else classes, copies, share, seed
        )
        return rows[~part], rows[part]
    if order.groups is None:
        rest, part = train_test_split(rows, test_size=share, stratify=classes, random_state=seed)
        return rest, part
    groups = order.groups[rows]
    if classes is None:
        chosen = GroupShuffleSplit(1, test_size=share, random_state=seed)
        rest, part = next(chosen.split(rows, groups=groups))
        return rows[rest], rows[part]
    part = _stratified_groups(classes, groups, share, seed)
    return rows[~part], rows[part]


def _latest(
    rows: Indices, share: float, times: NDArray[np.generic], copies: Indices | None
) -> tuple[Indices, Indices]:
    """Split `rows` into the rest and the latest `share`; `times` and `copies` (N,) are theirs.

    All copies of a row go where the latest of them goes. So no copy of a late row is in the rest,
    and no row of the rest is later than the boundary.
    """
    # Rows of the same time stay in the order of the raw data.
    order = np.argsort(times, kind="stable")
    cut = len(rows) - max(1, round(share * len(rows)))
    if copies is not None:
        rank = np.empty(len(rows), np.int64)
        rank[order] = np.arange(len(rows))
        last = np.zeros(copies.max() + 1, np.int64)
        np.maximum.at(last, copies, rank)
        order = np.lexsort([rank, last[copies]])
        starts = 1 + np.flatnonzero(np.diff(copies[order]))
        if not len(starts):
            raise ValueError("all rows are copies of one")
        cut = int(starts[np.argmin(np.abs(starts - cut))])
    return rows[order[:cut]], rows[order[cut:]]


def _whole_copies(classes: Indices, copies: Indices, share: float, seed: int) -> Mask:
    """(N,): a random `share` of the rows of each class, with all copies of a row or none.

    Copies count for the class of the first copy.
    """
    _, first, counts = np.unique(copies, return_index=True, return_counts=True)
    if len(first) < 2:
        raise ValueError("all rows are copies of one")
    of, sizes = classes[first].tolist(), counts.tolist()
    exact = share * np.bincount(classes[first], weights=counts)
    room = np.floor(exact)
    missing = math.ceil(share * len(copies)) - int(room.sum())
    room[np.argsort(room - exact, kind="stable")[:missing]] += 1
    left, sets = room.tolist(), np.bincount(classes[first], minlength=len(room)).tolist()
    taken = np.zeros(len(first), bool)
    shuffled = np.random.default_rng(seed).permutation(len(first)).tolist()
    for unit in shuffled:
        if sizes[unit] <= left[of[unit]]:
            taken[unit] = True
            left[of[unit]] -= sizes[unit]
    # If every set of copies in a class is larger than its share, take the smallest set.
    for unit in sorted(shuffled, key=sizes.__getitem__):
        if left[of[unit]] == room[of[unit]] and sets[of[unit]] > 1:
            taken[unit] = True
            left[of[unit]] -= sizes[unit]
    return np.isin(copies, copies[first[taken]])


def _joined(groups: Indices, copies: Indices) -> Indices:
    """(N,): equal numbers for rows that are connected by groups and copies, also indirectly."""
    found = groups
    while True:
        joined = found
        for numbers in (copies, groups):
            least = np.full(numbers.max() + 1, groups.max())
            np.minimum.at(least, numbers, joined)
            joined = least[numbers]
        if np.array_equal(joined, found):
            return found
        found = joined


def _stratified_groups(classes: Indices, groups: Indices, share: float, seed: int) -> Mask:
    """(N,): whole groups with about `share` of the rows, with classes as balanced as possible."""
    most = min(MOST_FOLDS, len(np.unique(groups)))
    if most < 2:
        raise ValueError("all rows belong to one group")
    nearest = Fraction(share).limit_denominator(most)
    taken, count = nearest.numerator, nearest.denominator
    if not 0 < taken < count:
        taken, count = (1 if taken == 0 else most - 1), most
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    part = np.zeros(len(classes), bool)
    with warnings.catch_warnings():
        # sklearn warns of a class with fewer rows than folds; a later check covers this.
        warnings.simplefilter("ignore", UserWarning)
        for _, (_, fold) in zip(range(taken), folds.split(classes, classes, groups), strict=False):
            part[fold] = True
    return part


def _refuse_empty(raw: Raw, rows: dict[str, Indices], params: Prepare) -> None:
    for name, numbers in rows.items():
        if not len(numbers):
            raise InputError(
                f"{raw.where}: the {name} split has no rows{_because(raw, params)}. "
                f"{_remedy(raw, params, 'rows')}."
            )


def _refuse_absent_classes(
    raw: Raw,
    rows: dict[str, Indices],
    labels: Indices | None,
    classes: tuple[str, ...],
    params: Prepare,
) -> None:
    if labels is None:
        return
    for name, numbers in rows.items():
        absent = np.setdiff1d(np.arange(len(classes)), labels[numbers])
        if len(absent):
            raise InputError(
                f"{raw.where}: the {name} split has no row of the class {classes[absent[0]]!r}, "
                f"which has {int((labels == absent[0]).sum())} rows in all"
                f"{_because(raw, params)}. {_remedy(raw, params, 'rows of it')}."
            )


def _refuse_crossing_groups(
    raw: Raw, rest: Indices, test: Indices, keys: Indices, order: Order, params: Prepare
) -> None:
    """Refuse a group in both splits, which only a given test split can cause."""
    if order.groups is None:
        return
    shared = np.intersect1d(order.groups[rest], order.groups[test])
    if len(shared):
        one, other = (
            int(keys[rows[np.argmax(order.groups[rows] == shared[0])]]) for rows in (rest, test)
        )
        raise InputError(
            f"{raw.describe(one)} and {raw.describe(other)} have the same value of "
            f"{params.group!r}, which is prepare.group, but only one of them is in the test split "
            f"({len(shared)} such groups). Move both to one split, or remove prepare.group."
        )


def _because(raw: Raw, params: Prepare) -> str:
    """The parameter that decided the splits, in brackets, for messages."""
    if params.split_column:
        return f" (prepare.split_column: {params.split_column})"
    if params.group:
        return f" (prepare.group: {params.group})"
    if params.time:
        return f" (prepare.time: {params.time})"
    return " (the files mark the test split)" if raw.split is not None else ""


def _remedy(raw: Raw, params: Prepare, what: str) -> str:
    larger = "increase prepare.test or prepare.validation"
    if params.split_column:
        return (
            f"Add {what}, or remove prepare.split_column, or increase prepare.validation if that "
            "split is drawn at random"
        )
    if raw.split is not None:
        return f"Add {what}, or do not mark a test split, or increase prepare.validation"
    if params.group:
        return f"Add groups with {what}, or try another prepare.seed, or {larger}"
    return f"Add {what}, or {larger}"
