"""Files that a batch inference job reads: found, counted, fingerprinted, and read in batches."""

import hashlib
import itertools
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tasks.bundle.signature import Signature
from tasks.columns import Column, SourceLocation
from tasks.dataset import KEY
from tasks.errors import InputError
from tasks.files import idx, images, lines, npz, suffixes, tables
from tasks.files.chunks import sift
from tasks.files.convert import Kind
from tasks.hashed import HashedFile, blame_change
from tasks.words import some

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
    url: str = ""
    """Where `path` was copied from, as s3://BUCKET/KEY; of a folder of images, with a final /."""

    @property
    def name(self) -> str:
        """As messages and the manifest name it: never a temporary copy."""
        return self.url or str(self.path)

    @property
    def identity(self) -> str:
        """SHA-256 of all content."""
        return identity_of(self.sha256, self.members)

    @property
    def is_images(self) -> bool:
        """Whether the members are the rows."""
        return bool(self.members) and (self.url.endswith("/") if self.url else self.path.is_dir())

    @property
    def contents(self) -> dict[str, str]:
        """SHA-256 of each file whose rows are read, by absolute path or URL."""
        if not self.is_images:
            return {self.url or str(self.path.absolute()): self.identity}
        return {self._place(name): sha256 for name, sha256 in self.members.items()}

    def shown(self, member: str) -> str:
        """A member as messages name it."""
        return self.url + member if self.url else str(self.path / member)

    def _place(self, name: str) -> str:
        """The absolute path or URL of a member."""
        return self.url + name if self.url else str((self.path / name).absolute())

    def only(self, paths: Collection[str]) -> "InputFile | None":
        """With those files of `contents` that are among `paths`; None without any."""
        if not self.is_images:
            return self if self.contents.keys() & set(paths) else None
        kept = {name: s for name, s in self.members.items() if self._place(name) in paths}
        each = zip(self.members, self.hashed, strict=True)
        hashed = tuple(file for name, file in each if name in kept)
        listing = hashlib.sha256(_listing(kept).encode()).hexdigest()
        return InputFile(self.path, listing, len(kept), kept, hashed, self.url) if kept else None

    def described(self) -> dict[str, Any]:
        """As a manifest names it."""
        members = {"members": dict(self.members)} if self.members else {}
        return {"path": self.name, "sha256": self.sha256, "rows": self.rows, **members}


class Source(Protocol):
    """Where `find` gets files from. Paths are those of local files, which may be copies."""

    def bring(self, paths: Iterable[Path]) -> None:
        """Make the files that exist at the source local."""

    def has(self, path: Path) -> bool:
        """Whether there is such a file."""

    def content(self, path: Path) -> HashedFile:
        """Raises `InputError` if the file is missing or cannot be read."""


class Local:
    """Files of this machine."""

    def bring(self, paths: Iterable[Path]) -> None:
        """They are there."""

    def has(self, path: Path) -> bool:
        return os.path.isfile(path)  # `Path.is_file` fails for a name that is too long

    def content(self, path: Path) -> HashedFile:
        return HashedFile.of(path)


LOCAL = Local()


def by_url(text: str, files: Iterable[InputFile]) -> str:
    """A message with URLs in place of the paths of copies."""
    for file in files:
        if file.url.endswith("/"):
            text = text.replace(f"{file.path}/", file.url)
        elif file.url:
            text = text.replace(f"{file.path.parent}/", f"{file.url.rpartition('/')[0]}/")
    return text


def identity_of(sha256: str, members: Mapping[str, str]) -> str:
    """`InputFile.identity`, from what a manifest says of a file."""
    if not members:
        return sha256
    return hashlib.sha256(f"{sha256}\n{_listing(members)}".encode()).hexdigest()


def find(
    paths: Iterable[Path], signature: Signature | None = None, source: Source = LOCAL
) -> list[InputFile]:
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
            found.append(_loose(list(group), source))
        else:
            for path in group:
                found += (
                    _in_folder(path, signature, source)
                    if path.is_dir()
                    else [_inspect(path, signature, source)]
                )
    refuse_same_keys(found)
    return linked(found, signature, source) if signature else found


def chosen(names: Sequence[str], signature: Signature, folder: str) -> list[str]:
    """Those files of a folder, by their paths in it, that `find` would read there for this model.

    For folders whose files are not local yet; `folder` names it in messages.

    Raises:
        InputError: there are none, or unsupported pictures.
    """
    seen = [name for name in names if not any(p.startswith(".") for p in name.split("/"))]
    direct = [name for name in seen if "/" not in name]
    pictures = [name for name in seen if _is_image_name(name)]
    tabled = [n for n in direct if tables.form(Path(n), _ROWS) or idx.is_images(Path(n))]
    if tabled:
        named = any(column.names_files for column in signature.columns)
        return tabled + pictures if named else tabled
    texts = [name for name in direct if name.endswith(lines.SUFFIX)]
    if texts and may_take(signature, lines.SUFFIX):
        return texts
    if pictures:
        images.refuse_others((n for n in seen if not _is_image_name(n)), folder)
    if not pictures and not texts:
        raise InputError(f"{folder} holds no file ending in {', '.join(SUFFIXES)}")
    return pictures or texts


def _is_image_name(name: str) -> bool:
    return name.lower().endswith(images.SUFFIXES)


def anything_in(folder: Path, signature: Signature | None = None) -> bool:
    """Whether `find` would read something in this folder, which need not exist.

    Texts and image files count only for models with a `signature` of such.
    """
    if not folder.is_dir():
        return False
    names = [path for path in folder.glob("[!.]*") if not path.is_dir()]
    return (
        any(tables.form(path, (*_ROWS, *idx.SUFFIXES)) for path in names)
        or (may_take(signature, lines.SUFFIX) and any(p.suffix == lines.SUFFIX for p in names))
        or (may_take(signature, suffixes.FOLDER) and bool(images.every(folder)))
    )


def is_readable(path: Path, signature: Signature) -> bool:
    """Whether a file is one that `find` reads in a folder for this model, by its name."""
    if _is_picture(path):
        return may_take(signature, suffixes.FOLDER)
    if path.suffix == lines.SUFFIX:
        return may_take(signature, lines.SUFFIX)
    return tables.form(path, _ROWS) is not None or idx.is_images(path)


def linked(
    files: Iterable[InputFile], signature: Signature, source: Source = LOCAL
) -> list[InputFile]:
    """The same, tables with the files that they name where a column may name files."""
    naming = [column for column in signature.columns if column.names_files]
    if not naming:
        return list(files)
    return [
        _with_members(file, naming, signature, source)
        if tables.form(file.path) and not file.members
        else file
        for file in files
    ]


def _with_members(
    file: InputFile, naming: Sequence[Column], signature: Signature, source: Source
) -> InputFile:
    with blame_change(file.hashed):
        found = _named_by(file, naming, signature, source)
    return replace(file, members=_sha256s(found), hashed=(*file.hashed, *found.values()))


def fingerprint(files: Iterable[InputFile]) -> str:
    """SHA-256 over the files' contents, in order; their names do not count, but those of images
    do, which are keys.
    """
    return hashlib.sha256("\n".join(file.identity for file in files).encode()).hexdigest()


def hashed(files: Iterable[InputFile]) -> list[HashedFile]:
    """Every file that was hashed for `files`."""
    return [file for each in files for file in each.hashed]


def named(files: Sequence[InputFile]) -> str:
    """The files, for a message."""
    return some((file.name for file in files), 10)


def first_row(file: InputFile) -> int:
    """The number that a file gives to its first row, in messages."""
    return 1 if file.path.suffix == lines.SUFFIX else tables.first_row(file.path)


def form_of(file: InputFile) -> str | None:
    """The form of a file whose rows are one value each; None of a table."""
    if file.is_images:
        return suffixes.FOLDER
    return tables.form(file.path, (suffixes.ARRAYS, suffixes.LINES, *suffixes.IDX))


def may_take(signature: Signature | None, form: str) -> bool:
    """Whether a model reads rows of that form: it has one column, whose values such files hold."""
    if signature is None:
        return True
    return len(signature.columns) == 1 and form in signature.columns[0].file_forms


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES and not path.is_dir()


def _in_folder(folder: Path, signature: Signature | None, source: Source) -> list[InputFile]:
    tabled = sorted(p for p in folder.glob("[!.]*") if tables.form(p, _ROWS))
    tabled += idx.images_in(folder)
    if tabled:
        found = [_inspect(path, signature, source) for path in tabled]
        if signature and any(column.names_files for column in signature.columns):
            found = linked(found, signature, source)
            _refuse_unnamed(folder, found)
        return found
    texts = sorted(p for p in folder.glob("[!.]*") if p.suffix == lines.SUFFIX and p.is_file())
    if not (texts and signature and may_take(signature, lines.SUFFIX)):
        found_images = images.below(folder)
        if found_images:
            return [pictures(folder, found_images, source)]
    if texts:
        return [_inspect(path, signature, source) for path in texts]
    raise InputError(f"{folder} holds no file ending in {', '.join(SUFFIXES)}")


def _inspect(path: Path, signature: Signature | None, source: Source) -> InputFile:
    if idx.is_labels(path):
        raise InputError(f"{path} holds labels; name the file of images, ending in {idx.IMAGES}")
    if not path.exists():
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", str(path)):  # a path has lost the second slash
            raise InputError(
                f"{path} is a URL. Only `modelmint predict` and its flow read s3://BUCKET/KEY; "
                "copy the file to a folder and name that"
            )
        raise InputError(f"{path} is missing; give an existing file or folder")
    if not tables.form(path, SUFFIXES):
        raise InputError(
            f"{path}: a file must end in {', '.join(SUFFIXES)}, to be read by that form"
        )
    content = source.content(path)
    with blame_change([content]):
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


def pictures(folder: Path, files: list[Path], source: Source = LOCAL) -> InputFile:
    """Image files, a row each, under the names that they have in `folder`."""
    for file in files:
        if not str(file).isprintable():  # a name that is not UTF-8 cannot be a key
            raise InputError(f"{str(file)!r}: the name is not text that can be printed; rename it")
    found = {file.relative_to(folder).as_posix(): source.content(file) for file in files}
    members = _sha256s(found)
    sha256 = hashlib.sha256(_listing(members).encode()).hexdigest()
    return InputFile(folder, sha256, len(members), members, tuple(found.values()))


def _sha256s(files: Mapping[str, HashedFile]) -> dict[str, str]:
    return {name: file.sha256 for name, file in files.items()}


def _loose(files: list[Path], source: Source) -> InputFile:
    """Image files that were named one by one, by their paths in the folder that all lie in."""
    relative = not any(file.is_absolute() for file in files)
    files = [Path(os.path.abspath(file)) for file in files]
    if len(set(files)) < len(files):
        twice = next(file for number, file in enumerate(files) if file in files[:number])
        raise InputError(f"{twice} is named twice; name it once")
    found = pictures(Path(os.path.commonpath([file.parent for file in files])), files, source)
    return replace(found, path=Path(os.path.relpath(found.path))) if relative else found


def refuse_same_keys(files: Iterable[InputFile]) -> None:
    """Raises `InputError` if two image files would have the same key."""
    seen: dict[str, InputFile] = {}
    for file in files:
        for key in file.members if file.is_images else ():
            if key in seen:
                raise InputError(
                    f"{seen[key].shown(key)} and {file.shown(key)} would have the same key, {key}. "
                    "Name the folder that both folders lie in, or predict one after the other"
                )
            seen[key] = file


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
    file: InputFile, columns: Sequence[Column], signature: Signature, source: Source
) -> dict[str, HashedFile]:
    """The image files that rows of a table name, and that are there."""
    named: dict[str, Path] = {}
    table = tables.TableRows(file.path, kinds_of(signature), signature.read_as)
    describe = SourceLocation(file.name, first_row(file)).describe
    for chunk in table.chunks(0, 4096):
        rows, _ = sift(chunk, lambda some: table.typed(some.rows, describe))  # bad rows name none
        if rows is None:
            continue
        held = [
            column.name
            for column in columns
            if column.name in rows.schema.names and images.names_files(rows[column.name].type)
        ]
        if not held and not tables.has_json(file.path):
            break  # all chunks of such a file have the same types
        for name in held:
            for cell in images.cells(rows[name]):
                if cell.path is not None and cell.path not in named:
                    named[cell.path] = file.path.parent / cell.path
    source.bring(named.values())
    # A row that names no file is a bad row.
    return {name: source.content(path) for name, path in named.items() if source.has(path)}


def kinds_of(signature: Signature) -> dict[str, Kind]:
    """What columns of a form without types of its own are to be read as."""
    read_as = {column.name: column.read_as for column in signature.columns}
    return {KEY: "text", **{name: kind for name, kind in read_as.items() if kind is not None}}


def other_form(path: Path, signature: Signature) -> InputError:
    if may_take(signature, suffixes.FOLDER):
        return InputError(f"{path}: the model takes images; name files, tables or arrays of such")
    names = ", ".join(column.name for column in signature.columns)
    return InputError(f"{path}: the model takes a table of {names}; name a file of rows")
