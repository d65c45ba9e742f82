"""Makes the plan of a batch job, and measures the batch size that it uses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.columns import Arrays, SourceLocation
from tasks.files.chunks import Chunk, sift
from tasks.hashed import HashedFile
from tasks.input_rows import RowsOf, kept_types
from tasks.inputs import InputFile, first_row
from tasks.serving.batch_size import SIZES, WORTH_IT, batch_size
from tasks.serving.model import ReadyModel
from tasks.serving.options import Options
from tasks.serving.plan import Plan, key_of, split
from tasks.serving.software import software


def make_plan(
    model: ReadyModel,
    files: Sequence[InputFile],
    bundle: Mapping[str, HashedFile],
    provenance: Mapping[str, Any],
    reference: str,
    options: Options,
    cache: Path | None,
) -> Plan:
    """The plan of a new job; `cache` is the folder where the best batch size is kept."""
    kept = kept_types(files, options.keep, model.signature)
    shards, chains = split(files, model.signature)
    return Plan(
        model=provenance["model"],
        digest=provenance["digest"],
        reference=reference,
        provenance=provenance,
        bundle={name: (str(file.path), file.sha256) for name, file in bundle.items()},
        runtime={"provider": model.session.provider, **software()},
        options=options,
        batch_size=_batch_size(model, files, provenance["digest"], cache),
        key=key_of(files, model.signature),
        kept=kept,
        files=tuple(files),
        shards=tuple(shards),
        chains=tuple(tuple(chain) for chain in chains),
    )


def _batch_size(
    model: ReadyModel, files: Sequence[InputFile], digest: str, cache: Path | None
) -> int:
    rows = sum(file.rows for file in files)
    sample = _sample(model, files) if rows >= WORTH_IT else None
    return batch_size(model, digest, sample, cache)


def _sample(model: ReadyModel, files: Sequence[InputFile]) -> Arrays | None:
    """The first rows that can be encoded, as many as the largest batch has."""
    file = next(file for file in files if file.rows)
    rows = RowsOf(file, model.signature)
    chunk = next(rows.chunks(0, SIZES[-1]))

    def attempt(some: Chunk) -> Arrays:
        location = SourceLocation(file.name, first_row(file), some.index)
        return model.encode(rows.typed(some.rows, location), location)[0]

    found, _ = sift(chunk, attempt)
    return found
