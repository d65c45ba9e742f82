"""Raw data in files, and reading it as a source, for the tests of sources."""

import os

import pytest
from pydantic import TypeAdapter

from tasks import sources
from tasks.config import Source
from tasks.errors import InputError


def source(kind, path, **more):
    return TypeAdapter(Source).validate_python({"kind": kind, "path": path, **more})


def read(kind, root, path, reserved=(), **more):
    return sources.read(source(kind, path, **more), root, reserved)


def refusal(kind, root, path, reserved=(), **more):
    with pytest.raises(InputError) as caught:
        read(kind, root, path, reserved, **more)
    return str(caught.value).replace(f"{root}{os.sep}", "")


def put(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
