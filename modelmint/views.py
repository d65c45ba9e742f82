"""Views of one version, and of two versions side by side."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from modelmint import tables
from modelmint.errors import import_pandas
from modelmint.tables import Table
from registry import Version
from registry.display import comparing
from registry.display.describing import difference, facts, measured, number
from registry.display.documents import flat, per_class


@dataclass(frozen=True, repr=False)
class VersionView:
    """A version, shown as a table in a notebook and as lines in a shell.

    >>> registry.show("pets:2").version.metrics["accuracy"]
    1.0
    """

    version: Version

    def __repr__(self) -> str:
        return tables.as_text(*self._content())

    def _repr_html_(self) -> str:
        return tables.as_html(*self._content())

    def _content(self) -> tuple[str, list[Table]]:
        version = self.version
        content = [Table("", ("", ""), tuple(facts(version)[1:]))]
        if classes := per_class(version.evaluation):
            rows = tuple(
                (line.label, *map(number, line.values), str(line.support or ""))
                for line in classes.lines
            )
            content.append(Table("classes", ("class", *classes.names, "rows"), rows))
        if params := tuple(flat(version.params)):
            content.append(Table("parameters", ("", ""), params))
        return version.ref, content


class Comparison:
    """Two versions side by side. Equal values are left out, except metrics, gates and classes.

    >>> both = registry.compare("pets:1", "pets:2")
    >>> [(change.key, change.left, change.right) for change in both.params]
    [('train.seed', '1', '2')]
    """

    PARTS = ("metrics", "gates", "classes", "params", "origin", "libraries")
    """The parts of a comparison; each is an attribute, a tuple of lines."""

    def __init__(self, both: comparing.Comparison) -> None:
        self._both = both
        self.left = both.left
        self.right = both.right
        self.metrics = both.metrics
        self.gates = both.gates
        self.classes = both.classes
        self.params = both.params
        self.origin = both.origin
        """Data, code and run."""
        self.libraries = both.libraries
        self.same_bytes = both.same_bytes
        """Whether both have the same digest, and so predict the same."""
        self.left_on = both.left_on
        self.right_on = both.right_on
        """Descriptions of the rows on which each version was evaluated."""
        self.same_split = both.same_split
        """Whether both were evaluated on the same rows."""

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON values, as `modelmint models compare --json` prints it.

        >>> registry.compare("pets:1", "pets:2").as_dict()["same_split"]
        True
        """
        return self._both.as_dict()

    def to_pandas(self, part: str = "metrics") -> Any:
        """One of the `PARTS` as a DataFrame; `left` and `right` are the values of the versions.

            >>> frame = registry.compare("pets:1", "pets:2").to_pandas()
            >>> list(frame.columns)[:4]
            ['name', 'left', 'right', 'difference']

        Raises:
            ValueError: the part does not exist.
            MissingPackage: pandas is not installed.
        """
        if part not in self.PARTS:
            raise ValueError(f"There is no part {part!r}. Give one of {', '.join(self.PARTS)}.")
        pandas = import_pandas()
        if part == "gates":
            rows = [_gate_row(line) for line in self.gates]
            names = ["name", *(f"{s}_{n}" for s in ("left", "right") for n in _GATE)]
            return pandas.DataFrame(rows, columns=names)
        kinds = {"metrics": comparing.MetricLine, "classes": comparing.ClassLine}
        names = [field.name for field in fields(kinds.get(part, comparing.Change))]
        return pandas.DataFrame([asdict(line) for line in getattr(self, part)], columns=names)

    def __repr__(self) -> str:
        return tables.as_text(*self._content())

    def _repr_html_(self) -> str:
        return tables.as_html(*self._content())

    def _content(self) -> tuple[str, list[Table]]:
        left, right = self.left.ref, self.right.ref
        heading = f"{left} and {right}"
        if self.same_bytes:
            heading += ": the same digest, so they predict the same"
        elif not self.same_split:
            heading += ": measured on different test splits, so differences say little"
        content = [
            Table("", ("", ""), ((left, self.left_on), (right, self.right_on))),
            Table(
                "",
                ("metric", left, right, "difference", ""),
                tuple(
                    (m.name, number(m.left), number(m.right), difference(m.difference), m.verdict)
                    for m in self.metrics
                ),
            ),
            Table(
                "gates",
                ("gate", left, right),
                tuple((g.name, measured(g.left), measured(g.right)) for g in self.gates),
            ),
            Table(
                "classes",
                ("class", "", left, right, "difference"),
                tuple(
                    (c.label, c.name, number(c.left), number(c.right), difference(c.difference))
                    for c in self.classes
                ),
            ),
            self._changes("parameters that differ", self.params),
            self._changes("data and code that differ", self.origin),
            self._changes("libraries that differ", self.libraries),
        ]
        return heading, [table for table in content if table.rows]

    def _changes(self, title: str, found: tuple[comparing.Change, ...]) -> Table:
        rows = tuple((c.key, c.left or "none", c.right or "none") for c in found)
        return Table(title, ("", self.left.ref, self.right.ref), rows)


_GATE = ("value", "condition", "passed")


def _gate_row(line: comparing.GateLine) -> dict[str, Any]:
    sides = (("left", line.left), ("right", line.right))
    values = {f"{side}_{n}": getattr(gate, n, None) for side, gate in sides for n in _GATE}
    return {"name": line.name, **values}
