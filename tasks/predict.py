"""predict: run a model on input files; every row is predicted or in quarantine, exactly once.

The rows are divided into shards. A shard is written under a temporary name, synced, renamed and
then recorded, so that a killed job goes on where it was. Nothing is published until every shard is
recorded; the manifest comes last and proves that predicted and quarantined rows are all that were
read. Uses ONNX Runtime; imports no torch.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnxruntime

from tasks import formats
from tasks.counts import Counts
from tasks.errors import InputError, SetupError
from tasks.hashed import HashedFile, refuse_changed
from tasks.inputs import InputFile, fingerprint, hashed, named
from tasks.serving.drift import with_drift
from tasks.serving.folder import (
    MANIFEST,
    OLD_PREDICTIONS,
    PREDICTIONS,
    QUARANTINE,
    UNFINISHED,
    JobFolder,
    ShardRecord,
)
from tasks.serving.manifest import PredictReport
from tasks.serving.model import ReadyModel
from tasks.serving.options import DEFAULT_LIMIT, BadLimit, Options
from tasks.serving.plan import Plan
from tasks.serving.planning import make_plan
from tasks.serving.quarantine import BadSoFar, TooManyBad, merged
from tasks.serving.remote import Cluster, WorkersFailed
from tasks.serving.shard import TooMany, Workers, predict_chain, ready_model
from tasks.serving.status import Meter, Tell
from tasks.serving.submitting import elsewhere, ended, stopping
from tasks.serving.writing import write_whole
from tasks.session import Device


@dataclass(frozen=True)
class How:
    """How a job is carried out: none of it changes what is predicted."""

    device: Device = "auto"
    workers: int | None = None
    """Threads of this process, None: one for each processor that it may use. With an executor,
    threads of each chain, None: as many as suit it."""
    executor: Executor | None = None
    """Other processes, which predict the shards, such as a `Cluster` on several machines."""
    limit: BadLimit = DEFAULT_LIMIT
    cache: Path | None = None
    """Folder where the batch size that suits this machine is kept."""
    check_input: Callable[[], None] = field(default=lambda: None)
    """Called before anything is published; raises `InputError` if the input changed meanwhile at
    the place that it was copied from."""
    progress: Callable[[int], None] = field(default=lambda rows: None)
    """Gets the number of rows of each chunk that a thread of this process has done."""
    tell: Tell = field(default=lambda status: None)
    """Gets how far the job is, now and then and at the end, in the thread that predicts."""
    notice: Callable[[str], None] = field(default=lambda text: None)
    """Gets a line for a person, where something is waited for."""
    status: Callable[[str], None] = field(default=lambda text: None)
    """Gets a line of progress while input is copied, in place of the line before."""

    @property
    def threads(self) -> int:
        if self.workers:
            return self.workers
        # macOS has no affinity.
        return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

    @property
    def hands(self) -> int:
        """How many predict at a time: threads, or workers of a cluster."""
        return self.executor.workers if isinstance(self.executor, Cluster) else self.threads


def predict(
    bundle: Mapping[str, Path],
    files: Sequence[InputFile],
    *,
    output: Path,
    provenance: dict[str, Any],
    reference: str = "",
    options: Options | None = None,
    how: How | None = None,
) -> PredictReport:
    """Write `predictions/`, `quarantine/` where there are bad rows, `drift.json`, and then
    `manifest.json`.

    The columns of predictions are `key`, `prediction` and `score`: a class and its probability; a
    number, which has no score; or the token that a text goes on with, and the perplexity of the
    text. Others follow as `options` say. The rows of a shard are in order.

    `bundle` has the model's files by their paths in it; without `profile.json`, there is nothing to
    compare the rows with. `provenance` identifies the model and is
    written to the manifest and to the metadata of Parquet files. An unfinished job of the same
    model, input and options goes on where it was; what is left of another one is removed. Whoever
    calls has locked `output` with `owned`.

    Raises:
        InputError: a column does not match the signature, or an input changed since it was found;
            there are no rows; too many are bad; or the model knows no value of a column.
    """
    options, how = options or Options(), how or How()
    if not any(file.rows for file in files):
        raise InputError(f"{named(files)}: no rows to predict")
    _refuse_strangers(output)
    bundle_files = {name: HashedFile.of(path) for name, path in sorted(bundle.items())}
    model = ready_model(tuple(bundle_files.items()), how.device)
    options.check(model.signature)
    plan = make_plan(model, files, bundle_files, provenance, reference, options, how.cache)
    folder = JobFolder(output, plan.identity)
    with _disk_errors(output):
        return _carry_out(plan, folder, model, provenance, how)


def _carry_out(
    plan: Plan,
    folder: JobFolder,
    model: ReadyModel,
    provenance: Mapping[str, Any],
    how: How,
) -> PredictReport:
    """Predict what is missing, and publish everything."""
    plan = _kept(folder, plan)
    try:
        records = _predict_all(plan, folder, model, how)
        report = _report(plan, records, model, provenance)
    except (TooManyBad, WorkersFailed):  # the same command goes on
        raise
    except InputError:  # the same command would fail again
        folder.remove()
        raise
    folder.publish(file for record in records for file in record.files)
    report = with_drift(report, records, model.reference, folder)
    folder.place(MANIFEST, report.as_json())
    folder.remove()
    return report


@contextmanager
def _disk_errors(output: Path) -> Iterator[None]:
    """A full disk and the like as a `SetupError`; what is done stays, so the job can go on."""
    try:
        yield
    except OSError as error:
        # Arrow's own text repeats the reason.
        reason = os.strerror(error.errno) if error.errno else error
        raise SetupError(
            f"{output} cannot be written ({reason}). Nothing was published. Make "
            "room, and give the same command again: it goes on where it stopped"
        ) from error


def _refuse_strangers(output: Path) -> None:
    """Nothing that this job did not write is replaced, or would lie beside its predictions."""
    if (output / MANIFEST).exists():
        raise SetupError(f"{output} holds predictions; name another folder, or remove this one")
    # Release 0.1 wrote one file.
    found = [output / name for name in (PREDICTIONS, OLD_PREDICTIONS) if (output / name).exists()]
    if (output / UNFINISHED).exists():  # a job was killed while it gave its folders their names
        found = [path for path in found if path.name != PREDICTIONS]
    if found:
        raise SetupError(
            f"{found[0]} exists, without the manifest of a finished job beside it. Name another "
            "folder, or remove this one"
        )


def _kept(folder: JobFolder, plan: Plan) -> Plan:
    """The plan of the unfinished job that goes on here, placed as of today; else the new one."""
    if folder.plan.exists():
        plan = Plan.read(folder.plan).placed_as(plan)
    folder.create()
    write_whole(folder.plan, plan.write())
    return plan


def _predict_all(plan: Plan, folder: JobFolder, model: ReadyModel, how: How) -> list[ShardRecord]:
    """Predict what is missing; the records of all shards, in order.

    Raises:
        InputError: as `predict` does.
    """
    allowed = how.limit.rows(plan.rows)
    records: dict[int, ShardRecord] = {}

    def check(more: Mapping[str, int], example: str | None) -> None:
        found = [records[number] for number in sorted(records)]
        examples = [record.example for record in found if record.example]
        reasons = merged([*(record.reasons for record in found), more])
        so_far = BadSoFar(reasons, examples[0] if examples else example)
        so_far.check(plan.rows, allowed, how.limit.text, str(folder.path / QUARANTINE))

    meter = Meter(plan, folder)
    with _submitted(plan, folder, model, how, meter) as futures:
        for future in futures:
            try:
                more = future.result()
            except TooMany as error:
                check(*error.found)
                raise
            records.update({record.number: record for record in more})
            if any(record.reasons for record in more):
                check({}, None)
    meter.look(plan, folder)
    how.tell(meter.status(how.hands))
    refuse_changed(hashed(plan.files))
    how.check_input()
    return [records[number] for number in range(len(plan.shards))]


@contextmanager
def _submitted(
    plan: Plan, folder: JobFolder, model: ReadyModel, how: How, meter: Meter
) -> Iterator[Iterator[Future[Any]]]:
    """The chains as futures, in the order in which they end; all are stopped on an error."""
    allowed = how.limit.rows(plan.rows)

    def tell() -> None:
        if how.executor is not None:
            meter.look(plan, folder)
        how.tell(meter.status(how.hands))

    if how.executor is not None:
        with elsewhere(how.executor, plan, folder, allowed, how.workers) as pending:
            yield ended(pending, tell)
        return

    def progress(rows: int, shards: int) -> None:
        meter.add(rows, shards)
        if rows:
            how.progress(rows)

    workers = Workers(how.threads, model)
    # Two at a time: while one chain ends and waits for the disk, the next one begins.
    with (
        workers,
        ThreadPoolExecutor(min(2, how.threads), "shard") as pool,
        stopping(workers.stop.set) as pending,
    ):
        for chain in plan.chains:
            arguments = (str(folder.output), plan.identity, chain, allowed, workers)
            pending.append(pool.submit(predict_chain, *arguments, progress))
        yield ended(pending, tell)


def _report(
    plan: Plan,
    records: Sequence[ShardRecord],
    model: ReadyModel,
    provenance: Mapping[str, Any],
) -> PredictReport:
    """What the manifest says, after everything was compared.

    Raises:
        InputError: the model knows no value of a column.
    """
    read, rows = sum(record.rows for record in records), sum(file.rows for file in plan.files)
    if not read == rows == plan.rows:
        raise RuntimeError(f"{read} rows were read of {rows}, and {plan.rows} were planned")
    counts = Counts()
    for record in records:
        counts.merge(record.counts)
    counts.refuse_unknown(model.signature.columns, named(plan.files))
    return PredictReport(
        rows=rows,
        quarantined=sum(record.quarantined for record in records),
        reasons=dict(merged(record.reasons for record in records)),
        provider=model.session.provider,
        nodes=model.session.nodes,
        onnxruntime=onnxruntime.__version__,
        input_sha256=fingerprint(plan.files),
        inputs=[file.described() for file in plan.files],
        output={"path": PREDICTIONS},
        provenance=dict(provenance),
        substituted=counts.columns,
        options=asdict(plan.options),
        batch_size=plan.batch_size,
        shards=[_described(record) for record in records],
        format=formats.MANIFEST,
    )


def _described(record: ShardRecord) -> dict[str, Any]:
    """A shard as the manifest has it; what is counted is there once, for all of them."""
    found = asdict(record)
    return {name: found[name] for name in ("number", "rows", "quarantined", "keys", "files")}
