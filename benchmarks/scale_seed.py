"""Fills a registry in bulk with as many versions as a large team has; `verify` finds no problem.

The first version and every promotion are made by the registry's methods. The rest is inserted as
rows, with the seals and the hash chain that the methods would have written.
"""

import hashlib
import itertools
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, create_engine, make_url, select

from registry import Artifact, Candidate, Lineage, Registry, Version, digest, digests, schema
from registry.databases.database import DIALECTS
from registry.queries.events import hash_of
from registry.queries.params import flat
from registry.validation import candidates
from registry.values import moment, to_json

LARGE = "large"
DATA = "f" * 32
"""Hash of the data file of all versions of the large model."""
RARE = "grace"
"""The user who registered 1 version in 1,000."""

_SOURCES = "sources"
_VARIANTS = 1000  # of model.onnx; each pair with a signature gives a digest
_START = 1_700_000_000_000_000
_BATCH = 5000


@dataclass(frozen=True)
class Sizes:
    """The size of the registry."""

    versions: int
    models: int
    jobs: int

    @property
    def large(self) -> int:
        """Number of versions of the large model, all from one data file."""
        return self.versions // 4

    @property
    def champion(self) -> int:
        """The champion of the large model, with half of all jobs and up to 1,000 children."""
        return self.large // 2


def seed(url: str, folder: Path, sizes: Sizes) -> None:
    """Fill a new registry."""
    with Registry(url, folder) as registry:
        files = _register_files(registry, sizes)
    rows = _Rows(sizes, files)
    dialect = DIALECTS[make_url(url).get_backend_name()]
    engine = create_engine(dialect.prepare(make_url(url)), json_serializer=to_json)
    dialect.configure(engine)
    with dialect.migrating(engine) as c:
        dialect.drop_triggers(c)
        if c.dialect.name == "postgresql":  # checks each foreign key of millions of rows
            c.exec_driver_sql("SET LOCAL session_replication_role = replica")
        taken = c.execute(select(schema.versions.c.id)).scalars().all()
        for table, some in rows.all(first=max(taken) + 1):
            _insert(c, table, some)
        dialect.reset_sequences(c)
        dialect.install_triggers(c)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
            c.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
    with Registry(url, folder) as registry:
        for name, count in rows.counts.items():
            number = sizes.champion if name == LARGE else max(1, count // 2)
            registry.approve(name, number, actor="ada", reason="it is better")
            registry.promote(name, number, expect_revision=None, actor="ada", reason="it is better")


def _register_files(registry: Registry, sizes: Sizes) -> dict[str, Artifact]:
    """Register a version with every file that the others share. Returns these files by name."""
    count = -(-sizes.versions // _VARIANTS)
    with tempfile.TemporaryDirectory() as scratch:
        sources = {}
        for name in (
            *(f"model-{i}" for i in range(_VARIANTS)),
            *(f"signature-{i}" for i in range(count)),
            "evaluation",
        ):
            sources[name] = Path(scratch, name)
            sources[name].write_text(name)
        candidate = Candidate(
            files=sources,
            identity=frozenset(sources),
            signature={},
            metrics={},
            params={},
            evaluation={"passed": True},
            lineage=Lineage("0" * 32 + ".dir", "e" * 64, None, False, None, {}),
        )
        version = registry.register(_SOURCES, candidate, actor="ada").version
    return {artifact.path: artifact for artifact in version.artifacts}


class _Rows:
    """All rows by table, in batches that fit into memory."""

    def __init__(self, sizes: Sizes, files: dict[str, Artifact]) -> None:
        self.sizes, self.files = sizes, files
        self.counts: dict[str, int] = {}
        self._heads: dict[str, str] = {}
        self._names: list[str] = []
        self._spread = [f"model-{i:04d}" for i in range(sizes.models - 1)]
        self._documents = [self._params(i) for i in range(max(1, sizes.versions // 100))]
        self._canonical = [candidates.check_json("params", p) for p in self._documents]
        self._first = 0

    def all(self, first: int) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
        self._first = first
        ids = {name: i for i, name in enumerate((LARGE, *self._spread), 1000)}
        found: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for i, document in enumerate(self._documents, 1000):
            text = to_json(document)
            new = {"id": i, "sha256": hashlib.sha256(text.encode()).hexdigest()}
            found[schema.params].append(new | {"document": document})
            for key, value in flat(document).items():
                row = {"params_id": i, "key": key, "value": value}
                found[schema.param_values].append(row)
        others = itertools.cycle(self._spread)
        for i in range(self.sizes.versions):
            name = LARGE if i % 4 == 3 else next(others)
            self._version(found, i, name, ids[name])
            if i % _BATCH == _BATCH - 1:
                yield from _taken(found)
        yield from _taken(found)
        yield (
            schema.models,
            [
                {
                    "id": ids[name],
                    "name": name,
                    "last_version": count,
                    "last_event": self._heads[name],
                    "created_at": _START,
                    "four_eyes": False,
                }
                for name, count in self.counts.items()
            ],
        )
        yield schema.jobs, list(self._jobs())

    def _params(self, i: int) -> dict[str, Any]:
        return {
            "train": {
                "epochs": i % 50,
                "seed": i,
                "optimizer": {"name": "adam" if i % 3 else "sgd", "learning_rate": 0.001 * (i % 7)},
                "architecture": {"name": "mlp", "width": 32 * (1 + i % 8), "depth": 1 + i % 4},
            },
            "registration": {"metric": "macro_f1"},
        }

    def _version(self, found: Any, i: int, name: str, model: int) -> None:
        number = self.counts[name] = self.counts.get(name, 0) + 1
        self._names.append(f"{name}:{number}")
        id_, at, large = self._first + i, _START + i * 60_000_000, name == LARGE
        scores = {
            "accuracy": 0.5 + (i * 7919 % 49999) / 1e5,
            "macro_f1": 0.4 + (i * 104729 % 59999) / 1e5,
            "log_loss": (i * 1299709 % 99999) / 1e5,
            "calibration_error": (i % 997) / 1e4,
        }
        evaluation = _evaluation(scores)
        chosen = {
            "model.onnx": self.files[f"model-{i % _VARIANTS}"],
            "signature.json": self.files[f"signature-{i // _VARIANTS}"],
            "evaluation.json": self.files["evaluation"],
        }
        artifacts = tuple(
            Artifact(path, one.sha256, one.size, identity=path != "evaluation.json")
            for path, one in sorted(chosen.items())
        )
        after = large and self.sizes.champion < number <= self.sizes.champion + 1000
        champion = self.sizes.champion * 4 - 1
        lineage = Lineage(
            dataset=f"{'large' if large else name}"[:5].encode().hex().ljust(32, "0") + ".dir",
            test_split="e" * 64,
            git_commit=hashlib.sha1(str(i // 10).encode()).hexdigest(),
            git_dirty=False,
            flow_run_id=str(UUID(int=i)),
            libraries={"torch": "2.13.0", "onnxruntime": "1.31.1"},
            parent=f"{LARGE}:{self.sizes.champion}" if after else None,
            data={"data/raw/rows.csv": DATA if large else f"{model:032x}"},
        )
        by = RARE if i % 1000 == 7 else f"user-{i % 20}"
        of = i % len(self._documents)
        version = Version(
            model=name,
            version=number,
            uid=_uid(i),
            digest=digest(artifacts),
            status="candidate",
            signature=_SIGNATURE,
            metrics=scores,
            params=self._documents[of],
            evaluation=evaluation,
            lineage=lineage,
            artifacts=artifacts,
            tags={"bucket": str(i % 1000), "team": "risk" if i % 5 else "fraud"},
            aliases=(),
            created_at=moment(at),
            created_by=by,
        )
        documents = {
            "signature": candidates.check_json("signature", _SIGNATURE),
            "params": self._canonical[of],
            "evaluation": candidates.check_json("evaluation", evaluation),
        }
        event = {
            "at": at,
            "actor": by,
            "kind": "registered",
            "version": number,
            "alias": None,
            "previous": None,
            "reason": None,
            "payload": {
                "record": digests.seal(version, documents),
                "evaluation": hashlib.sha256(documents["evaluation"]).hexdigest(),
            },
            "prev_hash": self._heads.get(name, schema.NO_EVENT),
        }
        self._heads[name] = hash_of(name, event)
        own = {"version_id": id_}
        row = {
            "id": id_,
            "uid": version.uid,
            "model_id": model,
            "version": number,
            "digest": version.digest,
            "dataset": lineage.dataset,
            "test_split": lineage.test_split,
            "signature": _SIGNATURE,
            "params_id": 1000 + of,
            "libraries": lineage.libraries,
            "git_commit": lineage.git_commit,
            "git_dirty": False,
            "flow_run_id": lineage.flow_run_id,
            "parent_id": self._first + champion if after else None,
            "parent_uid": _uid(champion) if after else None,
            "request_id": None,
            "created_at": at,
            "created_by": by,
        }
        found[schema.versions].append(row)
        found[schema.version_artifacts] += [
            own | {"path": a.path, "sha256": a.sha256, "size": a.size, "identity": a.identity}
            for a in artifacts
        ]
        found[schema.version_metrics] += [own | {"key": k, "value": v} for k, v in scores.items()]
        found[schema.version_tags] += [
            own | {"key": k, "value": v} for k, v in version.tags.items()
        ]
        found[schema.version_data] += [
            own | {"path": path, "md5": md5} for path, md5 in lineage.data.items()
        ]
        found[schema.version_state].append(
            own | {"model_id": model, "version": number, "status": "candidate"}
        )
        found[schema.evaluations].append(
            own | {"id": id_, "passed": True, "report": evaluation, "at": at, "actor": by}
        )
        found[schema.events].append(
            {"id": id_ + 10, "model_id": model, "hash": self._heads[name], **event}
        )

    def _jobs(self) -> Iterator[dict[str, Any]]:
        champion = self._first + self.sizes.champion * 4 - 1
        at = _START + self.sizes.versions * 60_000_000
        for i in range(self.sizes.jobs):
            of_large, failed = i % 2 == 0, i % 50 == 3
            version = champion if of_large else self._first + i * 3 % self.sizes.versions
            own = self._names[version - self._first]
            yield {
                "id": str(uuid4()),
                "version_id": version,
                "reference": f"{LARGE}@champion" if of_large else own,
                "alias": "champion" if of_large else None,
                "alias_revision": 1 if of_large else None,
                "state": "failed" if failed else "completed",
                "input_sha256": hashlib.sha256(str(i).encode()).hexdigest(),
                "output": f"/srv/predictions/{i}",
                "rows": None if failed else 1000 + i,
                "provider": None if failed else "CPUExecutionProvider",
                "onnxruntime": None if failed else "1.31.1",
                "flow_run_id": str(uuid4()),
                "error": "the disk is full" if failed else None,
                "started_at": at + i * 1_000_000,
                "finished_at": at + i * 1_000_000 + 250_000,
                "substituted": None,
            }


def _uid(i: int) -> str:
    return UUID(int=i + 2**64).hex


_SIGNATURE = {"inputs": [{"name": "x", "dtype": "float32", "shape": [None, 8]}], "classes": ["a"]}


def _evaluation(scores: dict[str, float]) -> dict[str, Any]:
    return {
        "passed": True,
        "gates": [
            {"gate": "accuracy", "value": scores["accuracy"], "condition": ">= 0.4", "passed": True}
        ],
        "test_split": {"rows": 1000, "sha256": "e" * 64},
        "metrics": {
            "rows": 1000,
            "headline": ["macro_f1", "accuracy"],
            "summary": scores,
            "confusion": [[400, 100], [100, 400]],
        },
    }


def _taken(found: dict[Any, list[dict[str, Any]]]) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    yield from found.items()
    found.clear()


def _insert(c: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    """Insert rows with the same columns; on PostgreSQL by COPY, as there are millions."""
    names = list(rows[0])
    values = [[_plain(row[name]) for name in names] for row in rows]
    driver: Any = c.connection.driver_connection
    if c.dialect.name == "sqlite":
        marks = ", ".join("?" * len(names))
        driver.executemany(
            f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", values
        )
        return
    copy = f"COPY {table.name} ({', '.join(names)}) FROM STDIN"
    with driver.cursor() as cursor, cursor.copy(copy) as writing:
        for row in values:
            writing.write_row(row)


def _plain(value: Any) -> Any:
    return (
        json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        if isinstance(value, dict)
        else value
    )
