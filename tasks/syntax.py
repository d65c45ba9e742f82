"""The fingerprint of one Python file: a hash of its syntax, and the names that it imports.

To parse the 80 files of a stage takes 0.4 s, and a training has five processes that need it. So the
results are kept beside the compiled modules, where each is found by the content of its file. Like
those, they may be removed at any time. Imports only the standard library.
"""

import ast
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_KEPT = Path(importlib.util.cache_from_source(__file__)).with_name("fingerprints.json")
_MOST = 2000  # ten times the files of this package


class Parsed(NamedTuple):
    """What the fingerprint of a stage needs of one file."""

    digest: str
    imports: list[str]


def parsed(content: bytes, package: str) -> Parsed:
    """Parse a file of `package`, unless the result is kept."""
    key = f"{package} {hashlib.sha256(content).hexdigest()}"
    if key not in _kept():
        _new[key] = _kept()[key] = _parse(content, package)
    return Parsed(*_kept()[key])


def keep_parsed() -> None:
    """Keep the results of this process for others, unless Python may not write beside its code."""
    if not _new or sys.dont_write_bytecode:
        return
    files = _kept() if len(_kept()) < _MOST else _new
    part = _KEPT.with_name(f"{_KEPT.name}.{os.getpid()}.part")
    with suppress(OSError):
        part.write_text(json.dumps({"by": _THIS, "files": files}), encoding="utf-8")
        part.replace(_KEPT)
    _new.clear()


def file_digest(content: bytes) -> str:
    """The fingerprint of a Python file: the first 16 hex digits of SHA-256 of its syntax."""
    return _digest_of(_tree(content))


_new: dict[str, Parsed] = {}


@lru_cache(maxsize=1)
def _kept() -> dict[str, Parsed]:
    """The kept results; none if another release of this file or of Python wrote them."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads(_KEPT.read_bytes())
        if document["by"] == _THIS:
            return {key: Parsed(str(d), list(i)) for key, (d, i) in dict(document["files"]).items()}
    return {}


# Of the code that this process runs: an update of the file does not change it.
_THIS = f"{sys.version} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"


def _parse(content: bytes, package: str) -> Parsed:
    try:
        tree = _tree(content)
    except (SyntaxError, ValueError):  # half-written, perhaps: importing it fails as well
        return Parsed(hashlib.sha256(content).hexdigest()[:16], [])
    return Parsed(_digest_of(tree), sorted(set(_imports(tree, package))))


def _tree(content: bytes | str) -> ast.Module:
    """Parsed again if another thread parsed meanwhile: in Python 3.11 and 3.12 both use one
    counter, and `ast.parse` may end with a SystemError (CPython issue 106905).
    """
    for _ in range(20):
        with suppress(SystemError):
            return ast.parse(content)
    return ast.parse(content)


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Imported names that may be modules, and their packages, which Python imports first."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def _digest_of(tree: ast.AST) -> str:
    return hashlib.sha256("\n".join(_syntax(tree)).encode()).hexdigest()[:16]


def _syntax(tree: ast.AST) -> list[str]:
    """A syntax tree as lines that are the same in every release of Python.

    `ast.dump` and `ast.unparse` differ between releases. A new release may add fields, but they
    are empty for code that older releases can parse. So empty fields are skipped.
    """
    lines: list[str] = []

    def add(value: object) -> None:
        if isinstance(value, ast.AST):
            lines.append(type(value).__name__)
            for name in value._fields:
                inner = getattr(value, name, None)
                # `ctx` (load or store) follows from the position of a name.
                if inner is not None and inner != [] and name != "ctx":
                    lines.append(f".{name}")
                    add(inner)
            lines.append(")")
        elif isinstance(value, list):
            for item in value:
                if not _is_docstring(item):
                    add(item)
            lines.append("]")
        else:
            lines.append(f"{type(value).__name__} {value!r}")

    add(tree)
    return lines


def _is_docstring(node: object) -> bool:
    """Whether a statement is only a string: the docstring of a module, class, function or field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
