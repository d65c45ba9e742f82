"""A project with a champion and jobs, and the loop that looks at it, without a training."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from drift_helpers import register
from registry_helpers import LINEAGE, drift_document

from flows import feedback, versioning
from flows.job import run_job
from flows.loop import records
from flows.loop.check import Loop
from flows.loop.decision import Decision
from flows.loop.records import Retraining
from registry import Registry
from tasks import inputs
from tasks.bundle.signature import Signature
from tasks.config import Params
from tasks.predict import How

NAME = "tiny"


def table(seed: int, number: int = 400, flipped: float = 0.0) -> pa.Table:
    """Rows with the label of column a's sign, of which a share is flipped."""
    draw = np.random.default_rng(seed)
    a = draw.normal(size=number)
    right = (a > 0) ^ (draw.random(number) < flipped)
    keys = [f"{seed}-{place:04}" for place in range(number)]
    return pa.table({"key": keys, "a": a, "y": np.where(right, "yes", "no")})


class Tiny:
    """The model `tiny` in a project with the raw data data/raw/rows/past.parquet."""

    def __init__(self, registry: Registry, root: Path, bundle: dict[str, Path]) -> None:
        self.registry, self.root, self.bundle = registry, root, bundle
        self.output = root / "predictions"
        self.said: list[str] = []
        self.raw = root / "data/raw/rows"
        self.hash = versioning.data_hash(root, self.raw)
        self.add_version()

    def add_version(self, digest: str = "a", promote: bool = True, **lineage: Any) -> int:
        """Register the same model with another dataset, and make it champion."""
        data = {"data/raw/rows": lineage.pop("data", self.hash)}
        usual = {"prepare": {"source": {"kind": "tabular", "target": "y"}}}
        params = lineage.pop("params", usual)
        lineage = replace(LINEAGE, dataset=digest * 32, data=data)
        folder = self.root.parent / f"candidate-{digest}"
        register(self.registry, self.bundle, folder, lineage=lineage, params=params)
        version = self.registry.model(NAME).last_version
        if promote:
            given: dict[str, Any] = {"expect_revision": None, "actor": "ada", "reason": "better"}
            self.registry.promote(NAME, version, **given)
        return version

    def job(self, verdict: str | None, place: str = "predictions", reference: str = NAME) -> str:
        """A finished job that is only a row."""
        resolved = self.registry.resolve(reference)
        number = len(self.registry.jobs(NAME))
        output = str(self.root / place / str(number))
        job = self.registry.start_job(resolved, input_sha256=f"{number:064}", output=output)
        ran = {"rows": 300, "provider": "CPU", "onnxruntime": "1"}
        self.registry.finish_job(job, **ran, drift=drift_document(verdict))
        return job.id

    def predict(self, name: str, rows: pa.Table, reference: str = NAME, form: Any = None) -> str:
        """A real job of a file in data/inbox; its id."""
        path = self.root / f"data/inbox/{name}.parquet"
        pq.write_table(rows.drop_columns(["y"]), path)
        found = inputs.find([path], Signature.read(self.bundle["signature.json"]))
        resolved = self.registry.resolve(reference)
        folder = self.output / f"{name}-{resolved.version.version}"
        return run_job(self.registry, resolved, found, folder, how=How("cpu")).job

    def label(self, rows: pa.Table, job: str | None = None) -> None:
        """Give the labels of rows that were predicted."""
        path = self.root.parent / "labels.parquet"
        pq.write_table(rows.select(["key", "y"]), path)
        given: dict[str, Any] = {"key": "key", "label": "y", "job": job, "actor": "eve"}
        feedback.give(self.registry, NAME, path, say=print, **given)

    def loop(self, days: float = 0.0, **rules: Any) -> Loop:
        """The loop so many days after now, with these rules."""
        document = {
            "prepare": {"source": {"kind": "tabular", "path": "data/raw/rows", "target": "y"}},
            "train": {"architecture": {"name": "logistic"}},
            "evaluate": {"gates": rules.pop("gates", {"accuracy": 0.8})},
            "registration": {"name": NAME},
            "retrain": {"triggers": ["drift"], "labels": 100, **rules},
        }
        now = datetime.now(UTC) + timedelta(days=days)
        params = Params.model_validate(document)
        place = (self.root, self.output)
        return Loop(self.registry, params, *place, "loop", "run-1", now, self.said.append)

    def decide(self, days: float = 0.0, **rules: Any) -> Decision:
        return self.loop(days, **rules).decide()[1]

    def start(self, days: float = 0.0, **rules: Any) -> Retraining:
        """Claim the training that is due."""
        loop = self.loop(days, **rules)
        claimed = loop.claim(*loop.decide())
        assert claimed is not None
        return claimed

    def end(self, claimed: Retraining, outcome: str = "kept", version: int | None = None) -> None:
        self.loop().end(claimed, outcome, f"ended: {outcome}", version, data=self.hash)

    def payloads(self) -> list[dict[str, Any]]:
        """Of the entries about trainings, oldest first."""
        return [dict(e.payload) for e in reversed(self.registry.entries(NAME, "retraining"))]


def edit_raw(tiny: Tiny) -> None:
    """Replace the raw data under DVC."""
    pq.write_table(table(99).drop_columns(["key"]), tiny.raw / "past.parquet")


def claim_first(_index: int, url: str, artifacts: str) -> bool:
    """Claim a training of a model that has had none, in a process of its own."""
    with Registry(url, artifacts) as registry:
        claimed = records.start(
            registry,
            NAME,
            records.Log((), 0),
            champion=1,
            revision=1,
            text="drift",
            facts={},
            root=Path(artifacts),
            flow_run_id="run",
            actor="loop",
        )
    return claimed is not None
