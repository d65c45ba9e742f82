"""Files that a batch inference job reads: found, counted, fingerprinted, and read in batches."""

import hashlib
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.bundle.signature import Signature
from tasks.columns import Column, SourceLocation
from tasks.dataset import KEY
from tasks.errors import InputError
from tasks.files import idx, images, lines, npz, suffixes, tables
from tasks.files.chunks import Chunk, sift
from tasks.files.convert import Kind, plain
from tasks.hashed import HashedFile

_ROWS = (*suffixes.TABLES, suffixes.ARRAYS)
SUFFIXES = suffixes.PREDICTED


@dataclass(frozen=True)
class InputFile:
    """One file, by content, and how many rows it has; or many image files, a row each.

    `members` are image files and the SHA-256 of each: those of a folder by their paths in it, and
    then `path` is the folder and `sha256` that of a listing of them; or those that a table names.
    """

    path: Path
    sha256: str
    rows: int
    members: Mapping[str, str] = field(default_factory=dict)
    hashed: tuple[HashedFile, ...] = field(default=(), compare=False, repr=False)
    """Every file that was hashed for this one."""

    @property
    def identity(self) -> str:
        """SHA-256 of all content."""
        if not self.members:
            return self.sha256
        return hashlib.sha256(f"{self.sha256}\n{_listing(self.members)}".encode()).hexdigest()

    @property
    def is_images(self) -> bool:
        """Whether the members are the rows."""
        return bool(self.members) and self.path.is_dir()

    def described(self) -> dict[str, Any]:
        """As a manifest names it."""
        members = {"members": dict(self.members)} if self.members else {}
        return {"path": str(self.path), "sha256": self.sha256, "rows": self.rows, **members}


def find(paths: Iterable[Path], signature: Signature | None = None) -> list[InputFile]:
    """Every readable file that `paths` name, folders included, in the order of their names.

    Of a folder, tables and arrays are read; without any, the image files in it and its sub-folders,
    or else the files of lines. Tables for a model with this `signature` may name image files.

    Raises:
        InputError: a path is missing, a folder has nothing readable, a file is broken, or two
            images would have the same key.
    """
    found: list[InputFile] = []
    for alone, group in itertools.groupby(paths, key=_is_picture):
        if alone:
            found.append(_loose(list(group)))
        else:
            for path in group:
                found += (
                    _in_folder(path, signature) if path.is_dir() else [_inspect(path, signature)]
                )
    _refuse_same_keys(found)
    return linked(found, signature) if signature else found


def anything_in(folder: Path, signature: Signature | None = None) -> bool:
    """Whether `find` would read something in this folder, which need not exist.

    Texts and image files count only for models with a `signature` of such.
    """
    if not folder.is_dir():
        return False
    names = [path for path in folder.glob("[!.]*") if not path.is_dir()]
    return (
        any(tables.form(path, (*_ROWS, *idx.SUFFIXES)) for path in names)
        or (_may_take(signature, lines.SUFFIX) and any(p.suffix == lines.SUFFIX for p in names))
        or (_may_take(signature, suffixes.FOLDER) and bool(images.every(folder)))
    )


def linked(files: Iterable[InputFile], signature: Signature) -> list[InputFile]:
    """The same, tables with the files that they name where a column may name files."""
    naming = [column for column in signature.columns if column.names_files]
    if not naming:
        return list(files)
    return [
        _with_members(file, _named_by(file, naming, signature))
        if tables.form(file.path) and not file.members
        else file
        for file in files
    ]


def _with_members(file: InputFile, found: Mapping[str, HashedFile]) -> InputFile:
    return replace(file, members=_sha256s(found), hashed=(*file.hashed, *found.values()))


def fingerprint(files: Iterable[InputFile]) -> str:
    """SHA-256 over the files' contents, in order; their names do not count, but those of images
    do, which are keys.
    """
    return hashlib.sha256("\n".join(file.identity for file in files).encode()).hexdigest()


def hashed(files: Iterable[InputFile]) -> list[HashedFile]:
    """Every file that was hashed for `files`."""
    return [file for each in files for file in each.hashed]


def key_type(files: Iterable[InputFile], signature: Signature) -> pa.DataType | None:
    """The type of the column `key` over all files; None where they have none.

    Parquet and Arrow have types. Keys of CSV and JSON Lines are int64 where all of them are whole
    numbers as Python writes them, and text otherwise: `007` is not 7.

    Raises:
        InputError: files with types have different ones, which are not all whole numbers.
    """
    kinds, reading = kinds_of(signature), signature.read_as
    typed, plainly = set(), set()
    for path in (file.path for file in files if tables.form(file.path)):
        found = tables.type_of_key(path, kinds, reading)
        (plainly if tables.first_row(path) else typed).add(found)
    every = (typed | plainly) - {None}
    if len(every) > 1 and all(map(pa.types.is_signed_integer, every)):
        return pa.int64()
    if len(every) > 1 and typed - {None, pa.string()}:
        names = ", ".join(sorted(map(str, every)))
        raise InputError(
            f"the column 'key' has different types in the input files: {names}. Predict them one "
            "after the other, or write the keys with one type"
        )
    return every.pop() if len(every) == 1 else pa.string() if every else None


def first_row(file: InputFile) -> int:
    """The number that a file gives to its first row, in messages."""
    return 1 if file.path.suffix == lines.SUFFIX else tables.first_row(file.path)


class RowsOf:
    """The rows of one input file for a model, with the columns that `keep` names."""

    def __init__(
        self,
        file: InputFile,
        signature: Signature,
        keep: Collection[str] = (),
        also: Mapping[str, Kind] | None = None,
    ) -> None:
        """`also` gives the kinds of other columns of a table, all of which are then read.

        Raises:
            InputError: the model takes no rows of such a file.
        """
        self.file, self._signature = file, signature
        self._form = _form(file)
        self._table: tables.TableRows | None = None
        if self._form is None:
            # Values of JSON Lines would have another type in each chunk: kept ones are text.
            kept: dict[str, Kind] = dict.fromkeys(keep, "text")
            kinds = {**kept, **(also or {}), **kinds_of(signature)}
            needed = {KEY, *keep, *(column.name for column in signature.columns)}
            only = () if also is not None else needed
            self._table = tables.TableRows(file.path, kinds, signature.read_as, only)
        elif not _may_take(signature, self._form):
            raise _other_form(file.path, signature)
        elif keep:
            raise InputError(
                f"{file.path} has no columns, so --keep {','.join(keep)} cannot be kept"
            )

    def chunks(self, start: int, size: int) -> Iterator[Chunk]:
        """Chunks of up to `size` rows as they are in the file, with row `start` in the first.

        Raises:
            InputError: the file is missing or broken.
        """
        if self._table is not None:
            yield from self._table.chunks(start, size)
            return
        assert self._form is not None
        column, file = self._signature.columns[0], self.file
        for rows in column.read_file(self._form, file.path, file.members, start, size):
            yield Chunk.following(rows, start)
            start += rows.num_rows

    def typed(self, rows: pa.RecordBatch, location: SourceLocation) -> pa.RecordBatch:
        """Rows of a chunk with values as `Encoder.encode` takes them.

        Raises:
            BadRows: some rows have no such values; names the file, row and column of the first.
        """
        path = self.file.path
        if self._table is not None:
            rows = self._table.typed(rows, location.describe)
        folder = path if self.file.is_images else path.parent
        for column in self._signature.columns:
            rows = column.read_cells(rows, folder, self.file.members, location.describe)
        return rows

    def kept(self, rows: pa.RecordBatch, name: str) -> pa.Array:
        """A column that is passed through, (N,): of CSV and JSON Lines as text.

        Raises:
            InputError: there is none of that name.
        """
        tables.named(name, rows.schema.names, str(self.file.path), "--keep")
        column = plain(rows[name])
        return column.cast(pa.string()) if pa.types.is_binary(column.type) else column


def rows(
    file: InputFile, signature: Signature, size: int, also: Mapping[str, Kind] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches with the columns of the signature; `also` gives the kinds of other table columns.

    Raises:
        InputError: the file is broken, or a row of it; names the file and the row.
    """
    source = RowsOf(file, signature, also=also or {})
    for chunk in source.chunks(0, size):
        location = SourceLocation(str(file.path), first_row(file), chunk.refuse_bad().index)
        yield source.typed(chunk.rows, location)


def pieces(file: InputFile, signature: Signature, size: int) -> list[int]:
    """The rows of each part of a file that can be read without the parts before it, in order.

    Of image files any `size` rows are such a part; CSV, JSON Lines and the like are one.
    """
    if file.is_images:
        return [min(size, file.rows - start) for start in range(0, file.rows, size)]
    if tables.form(file.path) in (".parquet", ".arrow"):
        return tables.lengths(file.path, kinds_of(signature), signature.read_as)
    return [file.rows]


def _form(file: InputFile) -> str | None:
    """The form of a file whose rows are one value each; None of a table."""
    if file.is_images:
        return suffixes.FOLDER
    return tables.form(file.path, (suffixes.ARRAYS, suffixes.LINES, *suffixes.IDX))


def _may_take(signature: Signature | None, form: str) -> bool:
    """Whether a model reads rows of that form: it has one column, whose values such files hold."""
    if signature is None:
        return True
    return len(signature.columns) == 1 and form in signature.columns[0].file_forms


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES and not path.is_dir()


def _in_folder(folder: Path, signature: Signature | None) -> list[InputFile]:
    tabled = sorted(p for p in folder.glob("[!.]*") if tables.form(p, _ROWS))
    tabled += idx.images_in(folder)
    if tabled:
        found = [_inspect(path, signature) for path in tabled]
        if signature and any(column.names_files for column in signature.columns):
            found = linked(found, signature)
            _refuse_unnamed(folder, found)
        return found
    texts = sorted(p for p in folder.glob("[!.]*") if p.suffix == lines.SUFFIX and p.is_file())
    if not (texts and signature and _may_take(signature, lines.SUFFIX)):
        pictures = images.below(folder)
        if pictures:
            return [_pictures(folder, pictures)]
    if texts:
        return [_inspect(path, signature) for path in texts]
    raise InputError(f"{folder} holds no file ending in {', '.join(SUFFIXES)}")


def _inspect(path: Path, signature: Signature | None) -> InputFile:
    if idx.is_labels(path):
        raise InputError(f"{path} holds labels; name the file of images, ending in {idx.IMAGES}")
    if not path.exists():
        raise InputError(f"{path} is missing; give an existing file or folder")
    if not tables.form(path, SUFFIXES):
        raise InputError(
            f"{path}: a file must end in {', '.join(SUFFIXES)}, to be read by that form"
        )
    content = HashedFile.of(path)
    return InputFile(path, content.sha256, _count(path, signature), hashed=(content,))


def _count(path: Path, signature: Signature | None) -> int:
    if path.suffix == ".npz":
        arrays = npz.load(path, "images", "sequences")
        return len(npz.images(arrays, path) if "images" in arrays else npz.sequences(arrays, path))
    if idx.is_images(path):
        return idx.count(path)
    if path.suffix == lines.SUFFIX:
        return sum(1 for _ in lines.raw(path))
    if signature is None:
        return sum(tables.lengths(path))
    return sum(tables.lengths(path, kinds_of(signature), signature.read_as))


def _listing(members: Mapping[str, str]) -> str:
    """Files and their hashes as `sha256sum` lists them."""
    return "".join(f"{sha256}  {name}\n" for name, sha256 in members.items())


def _pictures(folder: Path, files: list[Path]) -> InputFile:
    """Image files, a row each, under the names that they have in `folder`."""
    for file in files:
        if not str(file).isprintable():  # a name that is not UTF-8 cannot be a key
            raise InputError(f"{str(file)!r}: the name is not text that can be printed; rename it")
    found = {file.relative_to(folder).as_posix(): HashedFile.of(file) for file in files}
    members = _sha256s(found)
    sha256 = hashlib.sha256(_listing(members).encode()).hexdigest()
    return InputFile(folder, sha256, len(members), members, tuple(found.values()))


def _sha256s(files: Mapping[str, HashedFile]) -> dict[str, str]:
    return {name: file.sha256 for name, file in files.items()}


def _loose(files: list[Path]) -> InputFile:
    """Image files that were named one by one, by their paths in the folder that all lie in."""
    relative = not any(file.is_absolute() for file in files)
    files = [Path(os.path.abspath(file)) for file in files]
    if len(set(files)) < len(files):
        twice = next(file for number, file in enumerate(files) if file in files[:number])
        raise InputError(f"{twice} is named twice; name it once")
    found = _pictures(Path(os.path.commonpath([file.parent for file in files])), files)
    return replace(found, path=Path(os.path.relpath(found.path))) if relative else found


def _refuse_same_keys(files: list[InputFile]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        for key in file.members if file.is_images else ():
            if key in seen:
                raise InputError(
                    f"{seen[key] / key} and {file.path / key} would have the same key, {key}. Name "
                    "the folder that both folders lie in, or predict one after the other"
                )
            seen[key] = file.path


def _refuse_unnamed(folder: Path, found: list[InputFile]) -> None:
    """No image file is passed over because there are tables or arrays too."""
    named = {os.path.realpath(file.path.parent / name) for file in found for name in file.members}
    rest = [path for path in images.every(folder) if os.path.realpath(path) not in named]
    if rest:
        raise InputError(
            f"{folder} holds {found[0].path.name} and {len(rest)} image files that no table "
            f"names, such as {rest[0]}. Put them apart, or name the files to predict"
        )


def _named_by(
    file: InputFile, columns: Sequence[Column], signature: Signature
) -> dict[str, HashedFile]:
    """The image files that rows of a table name, and that are there."""
    members: dict[str, HashedFile] = {}
    table = tables.TableRows(file.path, kinds_of(signature), signature.read_as)
    describe = SourceLocation(str(file.path), first_row(file)).describe
    for chunk in table.chunks(0, 4096):
        rows, _ = sift(chunk, lambda some: table.typed(some.rows, describe))
        for name in (column.name for column in columns if rows is not None):
            if name not in rows.schema.names or not images.names_files(rows[name].type):
                continue
            for cell in images.cells(rows[name]):
                if cell.path is None or cell.path in members:
                    continue
                path = file.path.parent / cell.path
                if path.exists():  # a row that names no file is a bad row
                    members[cell.path] = HashedFile.of(path)
    return members


def kinds_of(signature: Signature) -> dict[str, Kind]:
    """What columns of a form without types of its own are to be read as."""
    read_as = {column.name: column.read_as for column in signature.columns}
    return {KEY: "text", **{name: kind for name, kind in read_as.items() if kind is not None}}


def _other_form(path: Path, signature: Signature) -> InputError:
    if _may_take(signature, suffixes.FOLDER):
        return InputError(f"{path}: the model takes images; name files, tables or arrays of such")
    names = ", ".join(column.name for column in signature.columns)
    return InputError(f"{path}: the model takes a table of {names}; name a file of rows")
