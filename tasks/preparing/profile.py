"""The profile of the training split: constants to normalise by, and a reference to detect drift."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import formats
from tasks.bundle.signature import Signature
from tasks.columns import EncodeContext, SourceLocation, with_tensors
from tasks.columns.distributions import counts
from tasks.columns.distributions import distribution as distribution_of
from tasks.encoding import one_array
from tasks.preparing.fitting import Dataset
from tasks.preparing.reference import reference
from tasks.preparing.rows import PreparedRows


def profile(dataset: Dataset, lengths: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    """The content of `profile.json`; `lengths` are those of the training split, by column."""
    train, signature = dataset.splits["train"], dataset.signature
    content: dict[str, Any] = {
        "format": formats.PROFILE,
        "rows": len(train),
        "inputs": {},
        "target": distribution(train, signature),
    }
    location = SourceLocation("the training split")
    context = EncodeContext(location, signature.read_as, dataset.tokenizer)
    for column, tensors in with_tensors(signature.columns):
        part = column.profile(one_array(train.features[column.name]), context)
        inputs = {tensors[name].name: found for name, found in part.pop("inputs", {}).items()}
        _merge(content, {"inputs": inputs, **part})
    for found in content["inputs"].values():
        if not any(found.get("offset", ())):  # left out if all are 0, as nearly always
            found.pop("offset", None)
    for name, found in lengths.items():
        content[f"{name}.length" if "length" in content else "length"] = distribution_of(found)
    content["drift"] = reference(dataset)
    return content


def distribution(rows: PreparedRows, signature: Signature) -> dict[str, Any]:
    """Row counts by class, or the distribution of numbers; empty without a target."""
    if rows.target is None:
        return {}
    if signature.classifies:
        found = counts(rows.target)
        return {name: found.get(name, 0) for name in signature.classes}
    return distribution_of(rows.target.to_numpy())


def _merge(content: dict[str, Any], part: dict[str, Any]) -> None:
    """Add `part` to `content`: objects key by key, lists by appending."""
    for key, value in part.items():
        if key not in content:
            content[key] = value
        elif isinstance(value, dict):
            _merge(content[key], value)
        else:
            content[key] = content[key] + value
