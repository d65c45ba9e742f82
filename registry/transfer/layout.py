"""An OCI image layout in one tar file, the format of exported versions. No SQL.

    oci-layout               {"imageLayoutVersion":"1.0.0"}
    index.json               names the one manifest
    blobs/sha256/<digest>    the manifest, its config, and its layers: one for each file

`skopeo` and `oras` copy this format to and from container registries. Equal content gives equal
bytes. When a tar is read, no member is extracted by its name, and no content is used before its
digest was compared. A tar cannot make us read more than its own size: compressed tars and sparse
files are refused.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from registry.errors import InvalidCandidate

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
TITLE = "org.opencontainers.image.title"
"""The annotation of a layer with the path of its file."""
TAG = "org.opencontainers.image.ref.name"
"""The annotation in the index with the manifest's tag, as in `digits-3.tar:3`."""

_BLOBS = "blobs/sha256/"
_FOLDERS = {"blobs", "blobs/sha256"}
_HEADER = b'{"imageLayoutVersion":"1.0.0"}'
_DOCUMENT = 64 << 20  # bytes; our JSON documents are smaller
_CHUNK = 1 << 20  # bytes


_Model = TypeVar("_Model", bound=BaseModel)


class Descriptor(BaseModel, frozen=True):
    """The description of a blob; field names are those of the specification."""

    mediaType: str
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    """Bytes."""
    artifactType: str | None = None
    annotations: dict[str, str] | None = None

    @property
    def sha256(self) -> str:
        """The digest without `sha256:`."""
        return self.digest.removeprefix("sha256:")


class Manifest(BaseModel, frozen=True):
    """The document that names all other blobs."""

    schemaVersion: Literal[2] = 2
    mediaType: Literal["application/vnd.oci.image.manifest.v1+json"] = MANIFEST
    artifactType: str
    config: Descriptor
    layers: list[Descriptor]
    annotations: dict[str, str] | None = None


class _Index(BaseModel, frozen=True):
    schemaVersion: Literal[2] = 2
    mediaType: Literal["application/vnd.oci.image.index.v1+json"] = INDEX
    manifests: Annotated[list[Descriptor], Field(min_length=1, max_length=1)]


class _Header(BaseModel, frozen=True):
    imageLayoutVersion: Literal["1.0.0"]


def describe(content: bytes, media_type: str) -> Descriptor:
    """The descriptor of a document."""
    sha256 = hashlib.sha256(content).hexdigest()
    return Descriptor(mediaType=media_type, digest=f"sha256:{sha256}", size=len(content))


def write(
    path: Path, manifest: Manifest, config: bytes, files: Mapping[str, Path], *, tag: str
) -> Descriptor:
    """Write a layout to a new file; returns the descriptor of the manifest.

    `files` are the layers by SHA-256. Raises OSError, also if a file is too short.
    """
    document = _bytes(manifest)
    named = describe(document, MANIFEST)
    shown = {"artifactType": manifest.artifactType, "annotations": {TAG: tag}}
    index = _Index(manifests=[named.model_copy(update=shown)])
    documents = {named.sha256: document, manifest.config.sha256: config}
    sizes = {layer.sha256: layer.size for layer in manifest.layers}
    with path.open("xb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for folder in sorted(_FOLDERS):
            tar.addfile(_entry(folder, tarfile.DIRTYPE, 0o755))
        _add(tar, "oci-layout", _HEADER)
        _add(tar, "index.json", _bytes(index))
        for sha256 in sorted(documents.keys() | sizes.keys()):
            if sha256 in documents:
                _add(tar, _BLOBS + sha256, documents[sha256])
                continue
            entry = _entry(_BLOBS + sha256, tarfile.REGTYPE, 0o644)
            entry.size = sizes[sha256]
            with files[sha256].open("rb") as source:
                tar.addfile(entry, source)
    return named


@contextmanager
def read(path: Path) -> Iterator["Layout"]:
    """Open a layout for reading.

    Raises:
        InvalidCandidate: it is not a layout, is damaged, or has missing or unexpected members.
    """
    try:
        with tarfile.open(path, mode="r:") as tar:
            yield Layout(path, tar)
    except OSError as error:
        raise import_error(path, f"it cannot be read ({error.strerror or error})") from error
    # Errors that a crafted tar can cause.
    except (tarfile.TarError, EOFError, ValueError, RecursionError) as error:
        raise import_error(path, f"it is damaged or not a tar file ({error})") from error


def import_error(path: Path, what: str) -> InvalidCandidate:
    """The error for a file that cannot be imported."""
    return InvalidCandidate(
        f"{path} cannot be imported: {what}. Export the version again: "
        "`modelmint models export NAME:VERSION FILE`."
    )


class Layout:
    """A layout opened for reading: every blob is compared with its descriptor."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self._path, self._tar = path, tar
        self._members = self._index()
        self._parse(_Header, self._document("oci-layout"))
        index = self._parse(_Index, self._document("index.json"))
        self.named = index.manifests[0]
        """The descriptor of the manifest."""
        self.manifest = self._parse(Manifest, self.blob(self.named))
        self._refuse_unnamed_members()

    def blob(self, descriptor: Descriptor) -> bytes:
        """Read a document and compare it with its digest. Raises InvalidCandidate."""
        content = self._document(self._blob(descriptor))
        self._compare(descriptor, hashlib.sha256(content).hexdigest())
        return content

    def copy(self, descriptor: Descriptor, target: Path) -> None:
        """Copy a blob to a new file and compare it with its digest. Raises InvalidCandidate."""
        source = self._tar.extractfile(self._members[self._blob(descriptor)])
        assert source is not None, "only plain files are members"
        sha256 = hashlib.sha256()
        with source, target.open("xb") as file:
            while chunk := source.read(_CHUNK):
                sha256.update(chunk)
                file.write(chunk)
        self._compare(descriptor, sha256.hexdigest())

    def _index(self) -> dict[str, tarfile.TarInfo]:
        found: dict[str, tarfile.TarInfo] = {}
        for member in self._tar:
            # `tar` writes ./index.json when it packs a folder.
            name = member.name.removeprefix("./")
            if member.isdir() and name in _FOLDERS | {"."}:
                continue
            plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
            if not plain:
                raise import_error(
                    self._path, f"it has {member.name!r}, which is not a regular file"
                )
            if name in found:
                raise import_error(self._path, f"it has {name!r} twice")
            found[name] = member
        return found

    def _refuse_unnamed_members(self) -> None:
        expected = {"oci-layout", "index.json"}
        for descriptor in (self.named, self.manifest.config, *self.manifest.layers):
            expected.add(self._blob(descriptor))
        for name in sorted(self._members.keys() - expected):
            raise import_error(self._path, f"it has {name!r}, which its manifest does not name")

    def _blob(self, descriptor: Descriptor) -> str:
        name = _BLOBS + descriptor.sha256
        member = self._members.get(name)
        if member is None:
            raise import_error(self._path, f"{name} is missing")
        if member.size != descriptor.size:
            what = f"{name} has {member.size} bytes instead of {descriptor.size}"
            raise import_error(self._path, what)
        return name

    def _document(self, name: str) -> bytes:
        member = self._members.get(name)
        if member is None:
            raise import_error(self._path, f"{name} is missing")
        if member.size > _DOCUMENT:
            limit = f"a document has at most {_DOCUMENT:,}"
            raise import_error(self._path, f"{name} has {member.size} bytes, and {limit}")
        source = self._tar.extractfile(member)
        assert source is not None, "only plain files are members"
        with source:
            return source.read()

    def _compare(self, descriptor: Descriptor, actual: str) -> None:
        if actual != descriptor.sha256:
            what = f"{_BLOBS}{descriptor.sha256} was changed: its SHA-256 is {actual}"
            raise import_error(self._path, what)

    def _parse(self, model: type[_Model], content: bytes) -> _Model:
        try:
            return model.model_validate_json(content, strict=True)
        except ValidationError as error:
            raise import_error(self._path, f"one of its documents is invalid: {error}") from error


def _bytes(document: BaseModel) -> bytes:
    return document.model_dump_json(exclude_none=True).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = _entry(name, tarfile.REGTYPE, 0o644)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)  # with time 0 and no owner, so that bytes do not vary
    entry.type, entry.mode = kind, mode
    return entry
