"""Proposes parameters for new data, and lists the assumptions behind them.

Used only when a project is created: the proposal is written to `params.yaml`, where the user can
correct it. The stages never guess.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks import recipes, search_space, sources
from tasks.config import Params, Tune
from tasks.errors import InputError
from tasks.files import npz, suffixes, tables
from tasks.guesses import (
    FEW,
    distinct_values,
    has_black_edges,
    has_blanks,
    has_images,
    has_texts,
    in_colour,
    is_fixed_list,
    missing_words,
    reason_to_ignore,
    without_words,
)
from tasks.problems import PROBLEMS
from tasks.sources.raw import Raw
from tasks.words import some

TARGETS = ("target", "label", "class", "y", "outcome", "species", "sentiment", "category", "price")
# With more other columns than this, a table is tabular data, and its text column is not used.
BESIDE_TEXT = 2
SIDE = 64  # pixels; larger images train slowly on a CPU
IMAGES_SEEN = 200  # images whose size and mode are read


@dataclass
class Proposal:
    """Proposed parameters, and the assumptions as sentences for the user."""

    params: Params
    assumptions: list[str]


@dataclass
class _Draft:
    source: dict[str, Any]
    prepare: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, float] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    recipe: recipes.Recipe | None = None
    """How the network is chosen and trained; None: by the kind of data alone."""

    def assume(self, text: str) -> None:
        self.assumptions.append(text)


def for_digits() -> Params:
    """The first project: scikit-learn's handwritten digits."""
    return _with_search_space(
        {
            "prepare": {"source": {"kind": "digits"}, "seed": 1},
            "train": {"architecture": "cnn"},
            "evaluate": {"gates": {"accuracy": 0.95, "macro_f1": 0.95}},
            "registration": {"name": "digits", "metric": "macro_f1"},
        }
    )


def propose(root: Path, path: str) -> Proposal:
    """Parameters for the file or folder at `root / path`.

    Raises:
        InputError: no file there can be read; says which kinds of file can.
    """
    draft = _draft(root / path, path)
    recipe = draft.recipe or recipes.of_others(draft.source["kind"])
    document = {
        "prepare": {"source": {**draft.source, **recipe.source}, **draft.prepare},
        "train": recipe.train,
        "evaluate": {"gates": draft.gates, **draft.evaluate, **recipe.evaluate},
        "registration": {"name": _model_name(path)},
    }
    prepare, unreadable = Params.model_validate(document).prepare, ""
    try:
        raw = sources.read(prepare.source, root)
    except InputError as error:
        unreadable = f"NOT READABLE YET, edit params.yaml: {error}"
    else:
        if prepare.source.kind == "image":
            recipe = _of_pixels(raw, prepare.task)
    params = _with_search_space({**document, "train": recipe.train})
    why = f" ({recipe.why})" if recipe.why else ""
    draft.assume(f"train.architecture: {params.train.architecture.name}{why}")
    if unreadable:
        draft.assume(unreadable)
    return Proposal(params, draft.assumptions)


def _of_pixels(raw: Raw, task: str) -> recipes.Recipe:
    """How a network of these images is trained, by their number, size and colour."""
    (name,) = raw.features
    images = raw.table[name].combine_chunks()
    height, width, _ = images.type.shape
    return recipes.of_images(
        len(raw),
        (height, width),
        colour=in_colour(images),
        black_edges=has_black_edges(images),
        classes=PROBLEMS[task].loss == "cross_entropy",
    )


def _with_search_space(document: dict[str, Any]) -> Params:
    """The parameters of a document, and what `modelmint tune` varies."""
    params = Params.model_validate(document)
    tune = Tune(parameters=search_space.proposed(params), trials=40)
    return params.model_copy(update={"tune": tune})


def _draft(path: Path, name: str) -> _Draft:
    if path.is_dir():
        return _of_folder(path, name)
    if tables.form(path):
        return _of_table(path, name)
    if path.suffix == suffixes.LINES:
        return _of_texts(path, name, classes=[])
    if path.suffix == suffixes.ARRAYS:
        return _of_arrays(path, name)
    raise InputError(
        f"{path.name} cannot be read. Give a file that ends in "
        f"{', '.join([*suffixes.TABLES, suffixes.ARRAYS, suffixes.LINES])}, a folder of such "
        "files, or a folder with one sub-folder of PNG or JPEG files for each class"
    )


def _of_folder(path: Path, name: str) -> _Draft:
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    if any(tables.form(p) for p in path.iterdir()):
        return _of_table(path, name)
    if any(p.name.endswith(suffixes.IDX) for p in files):
        return _with_classes(_Draft({"kind": "image", "path": name}), [])
    if images := [p for p in files if p.suffix.lower() in suffixes.IMAGES]:
        return _of_images(images, name)
    if texts := [p.stem for p in path.glob(f"*{suffixes.LINES}")]:
        return _of_texts(path, name, classes=texts)
    raise InputError(
        f"the folder {path.name} has no files that can be read; tables, PNG or JPEG files, or "
        ".txt files are expected"
    )


def _of_images(files: list[Path], name: str) -> _Draft:
    from PIL import Image

    draft = _Draft({"kind": "image", "path": name})
    sizes, modes = Counter[tuple[int, int]](), set[bool]()
    step = max(1, len(files) // IMAGES_SEEN)
    for file in files[::step]:
        try:
            with Image.open(file) as image:
                sizes[image.height, image.width] += 1
                modes.add(image.mode in ("1", "L", "LA", "I;16"))
        except OSError:  # `sources.read` names the broken file later
            continue
    largest = max((max(size) for size in sizes), default=0)
    if len(sizes) > 1 or largest > SIDE:
        usual = sizes.most_common(1)[0][0]
        draft.source["size"] = [SIDE, SIDE] if largest > SIDE else list(usual)
        height, width = draft.source["size"]
        draft.assume(
            f"size: images are resized to {height} x {width} pixels (the largest has a "
            f"side of {largest})"
        )
    if len(modes) > 1:
        draft.source["colour"] = "rgb"
        draft.assume("colour: rgb, since some images are grey and some are not")
    labels = [file.parent.name for file in files]
    draft.assume(
        f"kind: image; task: classification by the {len(set(labels))} folders of the files"
    )
    return _with_classes(draft, labels)


def _of_texts(path: Path, name: str, classes: list[str]) -> _Draft:
    draft = _Draft({"kind": "text", "path": name})
    if path.is_dir() and len(classes) > 1:
        labels = [file.stem for file in path.glob(f"*{suffixes.LINES}") for _ in file.open("rb")]
        draft.assume(f"kind: text; task: classification by file: {some(sorted(classes))}")
        draft.recipe = recipes.of_texts(_first_lines(path))
        return _with_classes(draft, labels)
    draft.assume("kind: text; each line is a text without a label")
    return _language_model(draft)


def _first_lines(folder: Path) -> list[str]:
    """A few texts of each file of the folder."""
    lines: list[str] = []
    for file in sorted(folder.glob(f"*{suffixes.LINES}")):
        with file.open(encoding="utf-8", errors="replace") as opened:
            lines += islice(opened, recipes.TEXTS // 10)
    return lines


def _of_arrays(path: Path, name: str) -> _Draft:
    arrays = npz.load(path, "images", "sequences")
    kind = "image" if "images" in arrays else "sequence"
    labels = arrays.get("labels")
    if labels is not None and labels.ndim != 1:
        raise InputError(
            f"{path.name}: labels has the shape {labels.shape}; one label per row is expected"
        )
    draft = _Draft({"kind": kind, "path": name})
    draft.assume(f"kind: {kind}, from the names of the arrays")
    if "images" not in arrays:
        rows, longest, *_ = (*arrays["sequences"].shape, 0, 0)
        draft.recipe = recipes.of_sequences(rows, longest)
    return _with_target(draft, None if labels is None else pa.chunked_array([pa.array(labels)]))


def _of_table(path: Path, name: str) -> _Draft:
    table = tables.read(path)[0]
    if not table.num_rows:
        raise InputError(f"{path.name} has no rows")
    found = {column: table[column] for column in table.column_names}
    words = missing_words(found.values())
    draft = _of_columns(path, name, {n: without_words(c, words) for n, c in found.items()})
    if words and draft.source["kind"] in ("tabular", "text"):
        draft.source["csv"] = {"na_values": words}
        draft.assume(f"csv.na_values: {some(words)}, which stands among numbers or dates")
    return draft


def _of_columns(path: Path, name: str, found: dict[str, pa.ChunkedArray]) -> _Draft:
    listed = [n for n, c in found.items() if pa.types.is_list(c.type) or is_fixed_list(c)]
    images = [n for n, c in found.items() if has_images(c)]
    texts = [n for n, c in found.items() if has_texts(c)]
    if listed or images:
        kind, column = ("image", images[0]) if images else ("sequence", listed[0])
        others = {n: c for n, c in found.items() if n != column}
        target = _target(others)
        if target is None:
            raise InputError(
                f"{path.name} has only the column {column!r}; a column to predict is expected too"
            )
        draft = _Draft({"kind": kind, "path": name, "column": column, "target": target})
        draft.assume(f"kind: {kind}; column: {column}")
        if not images:
            longest = pc.max(pc.list_value_length(found[column])).as_py() or 0
            draft.recipe = recipes.of_sequences(len(found[column]), longest)
        draft.assume(_why_target(target, others))
        return _with_target(draft, found[target])
    others = {n: c for n, c in found.items() if n not in texts}
    if texts and len(others) <= BESIDE_TEXT + 1:
        return _of_text_column(name, found, texts[0], others)
    if (target := _target(others)) is None:
        raise InputError(
            f"{path.name} has no column to predict; a column of classes or numbers is expected"
        )
    draft = _Draft({"kind": "tabular", "path": name, "target": target})
    draft.assume("kind: tabular")
    draft.assume(_why_target(target, others))
    ignored = {n: why for n, c in found.items() if n != target and (why := reason_to_ignore(n, c))}
    if ignored:
        draft.source["ignore"] = list(ignored)
        draft.assumptions += [f"ignore: {n!r}, {why}" for n, why in ignored.items()]
    used = [c for n, c in found.items() if n not in ignored]
    draft.recipe = recipes.of_table(len(found[target]), len(used) - 1)
    if any(c.null_count or has_blanks(c) for c in used):
        draft.prepare["missing"] = "fill"
        draft.assume("missing: fill, since some values are missing")
    return _with_target(draft, found[target])


def _of_text_column(
    name: str,
    found: dict[str, pa.ChunkedArray],
    text: str,
    others: dict[str, pa.ChunkedArray],
) -> _Draft:
    draft = _Draft({"kind": "text", "path": name, "column": text})
    target = _target(others)
    draft.assume(f"kind: text; column: {text}, whose values are sentences")
    if target is None:
        return _language_model(draft)
    draft.source["target"] = target
    draft.assume(_why_target(target, others))
    draft.recipe = recipes.of_texts(found[text].drop_null().slice(0, recipes.TEXTS).to_pylist())
    if unused := [n for n in found if n not in (text, target)]:
        draft.assume(f"not used: {some(unused)}; a model of texts has no other input")
    if any(c.null_count for c in (found[text], found[target])):
        draft.prepare["missing"] = "drop"
        draft.assume("missing: drop, since some rows have no text or no label")
    return _with_target(draft, found[target])


def _with_target(draft: _Draft, column: pa.ChunkedArray | None) -> _Draft:
    """Set the task and gates by the values of the target."""
    if column is None:
        return _with_classes(draft, [])
    values, distinct = column.drop_null(), distinct_values(column)
    if not distinct or pa.types.is_temporal(column.type):
        raise InputError(
            f"the target has the type {column.type} and {len(values)} values, and cannot be "
            "predicted. Move a column of classes or numbers to the end, or name it `target`"
        )
    number = pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    if number or (pa.types.is_integer(column.type) and distinct > FEW):
        draft.prepare["task"] = "regression"
        draft.gates = {"r2": 0.3}
        draft.assume(f"task: regression, since the target has {distinct} different numbers")
        draft.assume("gate r2 >= 0.3: 0 is what the mean of the target reaches, 1 is perfect")
        return draft
    draft.assume(f"task: classification, since the target has {distinct} different values")
    return _with_classes(draft, values.to_pylist())


def _with_classes(draft: _Draft, labels: list[Any]) -> _Draft:
    """Set gates for a classification: better than always predicting the most frequent class."""
    counts = Counter(labels).values()
    if counts and recipes.imbalanced(counts):
        return _with_rare_classes(draft, list(counts))
    share = max(counts) / len(labels) if labels else 0.1
    accuracy = min(0.99, round(share + (1 - share) / 4, 2))
    draft.gates = {"accuracy": accuracy}
    draft.assume(
        f"gate accuracy >= {accuracy}: always predicting the most frequent class reaches "
        f"{share:.2f}; raise the gate when you know what is possible"
    )
    return draft


def _with_rare_classes(draft: _Draft, counts: list[int]) -> _Draft:
    """Gate by macro F1: accuracy is high without any row of a rare class."""
    share = max(counts) / sum(counts)
    # Of a model that always predicts the most frequent class, whose F1 is the only one above 0.
    useless = 2 * share / (1 + share) / len(counts)
    gate = round(useless + (1 - useless) / 20, 2)
    draft.gates = {"macro_f1": gate}
    draft.assume(
        f"gate macro_f1 >= {gate}: always predicting the most frequent class reaches {useless:.2f} "
        f"(and an accuracy of {share:.2f}). If a rare class is missed: train.imbalance: weights"
    )
    if len(counts) == 2:
        draft.evaluate["threshold"] = "auto"
        draft.assume(
            "evaluate.threshold: auto, since one of the two classes is rare: it is predicted from "
            "the probability on that gives the best macro F1 on the validation split"
        )
    return draft


def _language_model(draft: _Draft) -> _Draft:
    draft.prepare["task"] = "language_model"
    draft.recipe = recipes.Recipe({"architecture": recipes.LANGUAGE_MODEL}, {}, "")
    draft.gates = {"perplexity": 1000.0}
    draft.assume("task: language_model, since there is nothing else to predict")
    draft.assume("gate perplexity <= 1000: lower it when you know what is possible")
    return draft


def _target(columns: dict[str, pa.ChunkedArray]) -> str | None:
    """The column to predict: one with a name in `TARGETS`, otherwise the last one."""
    named = {name.lower(): name for name in columns}
    return next((named[t] for t in TARGETS if t in named), next(reversed(columns), None))


def _why_target(target: str, columns: dict[str, pa.ChunkedArray]) -> str:
    why = "by its name" if target.lower() in TARGETS else "the last column"
    others = [name for name in columns if name != target]
    more = f"; the other columns are {some(others)}" if others else ""
    return f"target: {target}, {why}{more}"


def _model_name(path: str) -> str:
    stem = Path(path).name.partition(".")[0].lower()
    return re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:63] or "model"
