"""The manifest of a finished job: what was read, with which model, and every file it became."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks import formats
from tasks.counts import Substituted
from tasks.errors import InputError, SetupError
from tasks.serving.folder import MANIFEST
from tasks.serving.options import Options


@dataclass(frozen=True)
class PredictReport:
    """The manifest of a finished job. `rows` is `predicted` and `quarantined` together."""

    rows: int
    provider: str
    nodes: dict[str, int]
    """ONNX nodes placed on each execution provider."""
    onnxruntime: str
    input_sha256: str
    inputs: list[dict[str, Any]]
    output: dict[str, Any]
    """`path` in the folder of the job; before format 3, of a file, with `sha256` and `size`."""
    provenance: dict[str, Any]
    probabilities: bool = False
    """Before format 3; now one of the `options`."""
    substituted: Substituted | None = None
    """See `tasks.counts`; None in a manifest of the first format."""
    quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Quarantined rows by reason; see `tasks.reasons`."""
    options: dict[str, Any] | None = None
    """See `tasks.serving.options.Options`."""
    batch_size: int | None = None
    shards: list[dict[str, Any]] = field(default_factory=list)
    """Number, rows, quarantined rows, first and last key, and files of each, in order."""
    drift: dict[str, Any] | None = None
    """Path, SHA-256 and size of `drift.json`, and its `summary`; None in older manifests."""
    format: int = 1

    @property
    def predicted(self) -> int:
        return self.rows - self.quarantined

    @property
    def asked(self) -> Options:
        """The options, also of a manifest that does not have them as such."""
        if self.options is None:
            return Options(probabilities=self.probabilities)
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in self.options.items()}
        found: Options = formats.record(Options, given)
        return found

    def files(self) -> list[Mapping[str, Any]]:
        """Path, SHA-256 and size of every file of the output."""
        if not self.shards:
            return [self.output] if "sha256" in self.output else []
        drift = [self.drift] if self.drift else []
        return [*(file for shard in self.shards for file in shard["files"]), *drift]

    def as_json(self) -> str:
        document = asdict(self)
        del document["probabilities"]
        return json.dumps(document, indent=2) + "\n"


def completed(output: Path) -> PredictReport | None:
    """The manifest of a job that is complete in `output`, or None.

    Raises:
        SetupError: there is a manifest, but the predictions are not those it describes.
        InputError: it is of a release with a newer format.
    """
    manifest = output / MANIFEST
    if not manifest.exists():
        return None
    try:
        document = formats.read(manifest, formats.MANIFEST)
        report: PredictReport = formats.record(PredictReport, document)
        changed = _changed(output, report.files())
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{manifest} cannot be read ({error}); remove the folder") from error
    if changed:
        raise SetupError(
            f"{changed[0]} is not what its manifest describes; somebody changed it. "
            "Remove the folder to predict again."
        )
    return report


def _changed(output: Path, files: Sequence[Mapping[str, Any]]) -> list[Path]:
    """The files that have another content. Raises OSError if one is missing."""

    def intact(file: Mapping[str, Any]) -> bool:
        with (output / file["path"]).open("rb") as stream:
            return bool(hashlib.file_digest(stream, "sha256").hexdigest() == file["sha256"])

    with ThreadPoolExecutor() as pool:  # hashing releases Python's lock
        fine = list(pool.map(intact, files))
    return [output / file["path"] for file, ok in zip(files, fine, strict=True) if not ok]
