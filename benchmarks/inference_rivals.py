"""What `modelmint predict` is compared with, as one would write it by hand.

    python -P benchmarks/inference_rivals.py script BUNDLE INPUT OUTPUT BATCH_SIZE
    python -P benchmarks/inference_rivals.py mlflow BUNDLE INPUT OUTPUT BATCH_SIZE
    python -P benchmarks/inference_rivals.py sampled REPORT ARGUMENT...
    python -P benchmarks/inference_rivals.py trusting ARGUMENT...

The first two read INPUT (Parquet), predict with the ONNX file of a bundle, and write `key`,
`prediction` and `score` to OUTPUT. The third is `modelmint ARGUMENT...`, looked at 200 times a
second. The fourth is the same without hashes, syncs and checks of values, to see what these cost.
Nothing of modelmint is imported by the first two, and only what they need.
"""

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
BLOCK = 4096
"""Rows of columns that are copied into a matrix together: they stay in the cache."""
ROW_GROUP = 65_536
PARTS = ("read", "encode", "infer", "write")
EVERY_S = 0.005
WAITING = ("threading.py", "queue.py", "thread.py", "_base.py", "selectors.py")
"""Files of Python in which a thread only waits for another."""

Feed = dict[str, np.ndarray]


class Clock:
    """Seconds spent in each part of a loop."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)

    def __call__(self, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        found = function(*arguments)
        self.spent[part] += time.perf_counter() - started
        return found


class Output:
    """A Parquet file that is written in groups of many rows, whatever the size of a batch."""

    def __init__(self, path: Path, classes: list[str]) -> None:
        self.path, self.classes = path, pa.array(classes)
        self.writer: pq.ParquetWriter | None = None
        self.waiting: list[pa.RecordBatch] = []

    def add(self, keys: pa.Array, probabilities: np.ndarray) -> None:
        """A batch: keys (N,), probabilities (N, classes)."""
        best = probabilities.argmax(axis=1)
        score = probabilities[np.arange(len(best)), best]
        labels = pa.DictionaryArray.from_arrays(best.astype(np.int32), self.classes)
        columns = {"key": keys, "prediction": labels, "score": pa.array(score)}
        self.waiting.append(pa.record_batch(columns))
        if sum(batch.num_rows for batch in self.waiting) >= ROW_GROUP:
            self.write()

    def write(self) -> None:
        table = pa.Table.from_batches(self.waiting)
        self.writer = self.writer or pq.ParquetWriter(self.path, table.schema)
        self.writer.write_table(table)
        self.waiting = []

    def close(self) -> None:
        if self.waiting:
            self.write()
        if self.writer:
            self.writer.close()


def script(bundle: Path, source: Path, target: Path, size: int) -> dict[str, float]:
    """One loop over batches, ONNX Runtime as it is by default: the seconds of its parts."""
    import onnxruntime as ort

    session = ort.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    signature = json.loads((bundle / "signature.json").read_bytes())
    encode = encoder(bundle, signature)
    clock, output = Clock(), Output(target, signature["classes"])
    batches = open_table(source, signature).iter_batches(size)
    while (batch := clock("read", next, batches, None)) is not None:
        feed = clock("encode", encode, batch)
        (probabilities,) = clock("infer", session.run, ["probabilities"], feed)
        clock("write", output.add, batch["key"], probabilities)
    clock("write", output.close)
    return clock.spent


def open_table(source: Path, signature: dict[str, Any]) -> pq.ParquetFile:
    """Categories come as codes and values, as the file has them."""
    kinds = {column["name"]: column["kind"] for column in signature["columns"]}
    categories = [name for name, kind in kinds.items() if kind == "category"]
    return pq.ParquetFile(source, read_dictionary=categories)


def encoder(bundle: Path, signature: dict[str, Any]) -> Callable[[pa.RecordBatch], Feed]:
    """From the columns of a batch to the inputs of the model."""
    kinds = {column["kind"] for column in signature["columns"]}
    if kinds == {"image"}:
        return lambda batch: {"image": pixels(batch["image"], signature["columns"][0]["shape"])}
    if kinds == {"text"}:
        tokens = tokenizer(bundle, signature["columns"][0]["max_length"])
        return lambda batch: tokens(batch["text"].to_pylist())
    numbers = [c["name"] for c in signature["columns"] if c["kind"] == "number"]
    categories = {
        c["name"]: pa.array(c["values"]) for c in signature["columns"] if c["kind"] == "category"
    }
    if not categories:
        return lambda batch: {"numbers": matrix(batch, numbers)}
    return lambda batch: {"numbers": matrix(batch, numbers), "categories": codes(batch, categories)}


def matrix(batch: pa.RecordBatch, names: list[str]) -> np.ndarray:
    """Columns as float32 (N, columns)."""
    found = np.empty((batch.num_rows, len(names)), np.float32)
    columns = [batch[name].to_numpy() for name in names]
    for start in range(0, batch.num_rows, BLOCK):
        rows = slice(start, start + BLOCK)
        for number, column in enumerate(columns):
            found[rows, number] = column[rows]
    return found


def codes(batch: pa.RecordBatch, values: dict[str, pa.Array]) -> np.ndarray:
    """Categories as int64 (N, columns), from 1 in the order of their values; 0 is unknown."""
    import pyarrow.compute as pc

    found = np.empty((batch.num_rows, len(values)), np.int64)
    for number, (name, known) in enumerate(values.items()):
        column = batch[name]
        places = pc.fill_null(pc.index_in(column.dictionary, value_set=known), -1)
        found[:, number] = (places.to_numpy() + 1)[column.indices.to_numpy()]
    return found


def pixels(images: pa.FixedSizeBinaryArray, shape: list[int]) -> np.ndarray:
    """Images as uint8 (N, *shape), without a copy."""
    width = images.type.byte_width
    content = np.frombuffer(images.buffers()[1], np.uint8)
    start = images.offset * width
    return content[start : start + len(images) * width].reshape(-1, *shape)


def tokenizer(bundle: Path, max_length: int) -> Callable[[list[str]], Feed]:
    """From texts to tokens, padded to the longest of the batch."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    found.enable_truncation(max_length)

    def encode(texts: list[str]) -> Feed:
        encoded = [one.ids for one in found.encode_batch_fast(texts)]
        length = np.array([len(ids) for ids in encoded], np.int64)
        tokens = np.zeros((len(encoded), length.max()), np.int64)
        for row, ids in zip(tokens, encoded, strict=True):
            row[: len(ids)] = ids
        return {"tokens": tokens, "length": length}

    return encode


def with_mlflow(bundle: Path, source: Path, target: Path, size: int) -> dict[str, float]:
    """The same loop with DataFrames and MLflow's pyfunc: the seconds of its parts."""
    import mlflow.pyfunc
    import pandas as pd  # noqa: F401, or `to_pandas` would import it on the clock

    model = mlflow.pyfunc.load_model(str(bundle.with_name("mlflow")))
    signature = json.loads((bundle / "signature.json").read_bytes())
    classes = signature["classes"]
    encode = frame_encoder(bundle, signature)
    clock, output = Clock(), Output(target, classes)
    batches = open_table(source, signature).iter_batches(size)
    while (batch := clock("read", next, batches, None)) is not None:
        feed = clock("encode", lambda part: encode(part.to_pandas()), batch)
        outputs = clock("infer", model.predict, feed)
        # Of a DataFrame, pyfunc gives one with the outputs' values in a row.
        found = np.asarray(outputs["probabilities"]).reshape(-1, len(classes))
        clock("write", output.add, batch["key"], found)
    clock("write", output.close)
    return clock.spent


def frame_encoder(bundle: Path, signature: dict[str, Any]) -> Callable[[Any], Any]:
    """From a DataFrame to what pyfunc takes: a DataFrame where the model has a single matrix."""
    columns = signature["columns"]
    kinds = {column["kind"] for column in columns}
    if kinds == {"image"}:
        shape = columns[0]["shape"]
        return lambda frame: {
            "image": np.frombuffer(b"".join(frame["image"]), np.uint8).reshape(-1, *shape)
        }
    if kinds == {"text"}:
        tokens = tokenizer(bundle, columns[0]["max_length"])
        return lambda frame: tokens(frame["text"].tolist())
    numbers = [c["name"] for c in columns if c["kind"] == "number"]
    known = {c["name"]: c["values"] for c in columns if c["kind"] == "category"}
    if not known:
        return lambda frame: frame[numbers]
    return lambda frame: {
        "numbers": frame[numbers].to_numpy(np.float32),
        "categories": np.column_stack(
            [
                frame[name].cat.set_categories(values).cat.codes.to_numpy().astype(np.int64) + 1
                for name, values in known.items()
            ]
        ),
    }


def sampled(report: Path, arguments: list[str]) -> None:
    """Run modelmint; write the functions of its code that threads were in, and how often."""
    from cli.main import main

    found: Counter[str] = Counter()
    done = threading.Event()

    def look() -> None:
        while not done.wait(EVERY_S):
            for thread, frame in sys._current_frames().items():
                if thread != watcher.ident:
                    found.update(place_of(frame))

    watcher = threading.Thread(target=look)
    watcher.start()
    sys.argv = ["modelmint", *arguments]
    try:
        main()
    finally:
        done.set()
        watcher.join()
        report.write_text(json.dumps(found))


def trusting(arguments: list[str]) -> None:
    """Run modelmint without what makes a job safe; the registry still verifies the model."""
    from cli.main import main
    from tasks import answers
    from tasks.files import formats
    from tasks.hashed import HashedFile
    from tasks.serving import folder, shard, writing
    from tasks.snapshot import Stamp

    def nothing(*_arguments: Any, **_more: Any) -> None:
        pass

    def unhashed(path: Path) -> HashedFile:
        return HashedFile(path, "0" * 64, Stamp.of(path), 0)

    def unsealed(path: Path, name: str, rows: int) -> writing.Written:
        return writing.Written(name, "0" * 64, path.stat().st_size, rows)

    replaced = {
        (HashedFile, "of"): staticmethod(unhashed),
        (writing, "sealed"): unsealed,
        (os, "fsync"): nothing,
        (folder.JobFolder, "record"): nothing,
        (shard, "refuse_changed"): nothing,
        (formats, "_refuse_not_utf8"): nothing,
        (answers, "refuse_not_finite"): nothing,
    }
    for (owner, name), other in replaced.items():
        getattr(owner, name)  # or a name that has changed would be measured as it is
        setattr(owner, name, other)
    sys.argv = ["modelmint", *arguments]
    main()


def place_of(frame: FrameType) -> Iterator[str]:
    """The innermost function of this repository; nothing for a thread that waits."""
    if Path(frame.f_code.co_filename).name in WAITING:
        return
    outer: FrameType | None = frame
    while outer is not None:
        path = Path(outer.f_code.co_filename)
        if (
            path.is_relative_to(ROOT)
            and path != Path(__file__)
            and "site-packages" not in path.parts
        ):
            name = outer.f_code.co_name
            yield "imports" if name == "<module>" else f"{path.relative_to(ROOT)} {name}"
            return
        outer = outer.f_back
    yield "imports and libraries"


if __name__ == "__main__":
    if sys.argv[1] == "sampled":
        sampled(Path(sys.argv[2]), sys.argv[3:])
    elif sys.argv[1] == "trusting":
        trusting(sys.argv[2:])
    else:
        run = {"script": script, "mlflow": with_mlflow}[sys.argv[1]]
        bundle, source, target = map(Path, sys.argv[2:5])
        print(json.dumps(run(bundle, source, target, int(sys.argv[5]))))
