"""A registered model, ready to predict."""

import json
import warnings
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from flows.job import remarks
from modelmint import arguments, tables
from modelmint.errors import Substituted
from modelmint.rows import paths_of, rows_of
from registry import Version
from tasks.bundle.files import lacking
from tasks.bundle.signature import Signature as Contract
from tasks.errors import InputError
from tasks.in_memory import Predicted, Predictor
from tasks.inputs import find


class Signature:
    """The inputs and the outputs of a model.

    >>> model.signature.columns
    {'size': 'number', 'colour': 'category: black, white', 'born': 'date'}
    >>> model.signature.classes
    ('cat', 'dog')
    """

    def __init__(self, contract: Contract) -> None:
        self.document = contract.model_dump(mode="json")
        """The content of `signature.json`."""
        self.task: str = contract.task
        """binary, multiclass, regression or language_model."""
        self.columns: dict[str, str] = {c.name: c.describe() for c in contract.columns}
        """The kind of each input column."""
        self.classes: tuple[str, ...] = contract.classes
        """The classes of a classifier, in the order of the probabilities; else empty."""
        self.threshold: float | None = contract.threshold
        """The probability from which on the second of two classes is predicted; None: the most
        probable class."""
        self.quantile: float | None = contract.quantile
        """The quantile that a regression predicts; None: the mean."""

    def __repr__(self) -> str:
        return tables.as_text(*self._content())

    def _repr_html_(self) -> str:
        return tables.as_html(*self._content())

    def _content(self) -> tuple[str, list[tables.Table]]:
        task = self.task.replace("_", " ")
        heading = f"{task}: {', '.join(self.classes)}" if self.classes else task
        return heading, [tables.Table("", ("column", "takes"), tuple(self.columns.items()))]


class Model:
    """A version in ONNX Runtime, with all files verified. Made by `registry.load`.

    It stays the same version if the alias moves. Safe to use from threads.

        >>> model = registry.load("pets@champion")
        >>> model.version.ref, model.reference
        ('pets:2', 'pets@champion')
    """

    def __init__(
        self,
        version: Version,
        reference: str,
        files: dict[str, Path],
        device: Literal["auto", "cpu", "cuda"],
    ) -> None:
        for name in lacking(files):
            raise InputError(
                f"{version.ref} cannot be loaded: it has no file {name}. It has "
                f"{', '.join(files)}; `registry.files({version.ref!r})` returns their paths"
            )
        self._predictor = Predictor(files, device)
        self.version = version
        """The version that predicts, with its metrics, parameters and lineage."""
        self.reference = reference
        """The full reference that it was loaded by: `pets@champion`."""
        self.signature = Signature(self._predictor.signature)

    @property
    def provider(self) -> str:
        """ONNX Runtime's execution provider, such as CPUExecutionProvider.

        >>> model.provider.endswith("ExecutionProvider")
        True
        """
        return self._predictor.provider

    def predict(self, rows: Any, *, probabilities: bool = False) -> Any:
        """Predict rows, with the same results and the same errors as `modelmint predict`.

        The result has the columns `key` (the column of that name, or the number of the row),
        `prediction` and `score`, and with `probabilities` a column `probability_CLASS` for each
        class. For a DataFrame it is a DataFrame with the same index, for anything else an Arrow
        table. Columns that the model does not take are ignored. Without rows, the result is empty.

            >>> rows = [{"size": 0.1, "colour": "white", "born": "2022-01-08"}]
            >>> model.predict(rows).to_pydict()["prediction"]
            ['cat']

        Values that the model did not know are counted in `answer.attrs["substituted"]` of a
        DataFrame and in the schema's metadata `modelmint.substituted` of a table; above 1 % of the
        rows there is a warning of the class `Substituted`. These predictions are not recorded in
        the registry; `modelmint predict` records a job.

        Args:
            rows: A DataFrame, an Arrow table, a dict with a list for each column, a list with a
                dict for each row, or the path or paths of files and folders.
            probabilities: Whether to give the probability of each class too.

        Raises:
            InputError: the rows do not match the signature; names row and column.
        """
        probabilities = arguments.flag("probabilities", probabilities)
        paths = paths_of(rows)
        if paths is not None:
            files = find(paths, self._predictor.signature)
            found, frame = self._predictor.files(files, probabilities=probabilities), None
        else:
            taken = rows_of(rows, self._predictor.signature)
            frame = taken.frame
            found = self._predictor.table(taken.table, taken.where, probabilities=probabilities)
        for remark in remarks(found.substituted):
            warnings.warn(f"{self.version.ref}: {remark}", Substituted, stacklevel=2)
        return self._table(found) if frame is None else self._frame(found, frame)

    def _table(self, found: Predicted) -> pa.Table:
        """With the metadata of the files of a batch job."""
        lineage = self.version.lineage
        facts = {
            "model": self.version.ref,
            "digest": self.version.digest,
            "dataset": lineage.dataset,
            "git_commit": str(lineage.git_commit),
            "substituted": json.dumps(found.substituted),
        }
        named = {f"modelmint.{name}": value for name, value in facts.items()}
        return found.table.replace_schema_metadata(named)

    def _frame(self, found: Predicted, frame: Any) -> Any:
        answer = found.table.to_pandas()
        answer.index = frame.index
        names = [str(name) for name in frame.columns]
        if "key" in names:  # unchanged: some pandas types change on the way through Arrow
            answer["key"] = frame.iloc[:, names.index("key")]
        answer.attrs = {
            "model": self.version.ref,
            "digest": self.version.digest,
            "substituted": found.substituted,
        }
        return answer

    def __repr__(self) -> str:
        return tables.as_text(*self._content())

    def _repr_html_(self) -> str:
        return tables.as_html(*self._content())

    def _content(self) -> tuple[str, list[tables.Table]]:
        signature = self.signature
        facts = (
            ("reference", self.reference),
            ("digest", self.version.digest),
            ("runs on", self.provider),
            ("predicts", ", ".join(signature.classes) or signature.task.replace("_", " ")),
            *((f"column {name}", kind) for name, kind in signature.columns.items()),
        )
        return f"model {self.version.ref}", [tables.Table("", ("", ""), facts)]
