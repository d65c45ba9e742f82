"""Reads `params.yaml`, applies overrides, and explains mistakes in them."""

import difflib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks.config import PRESETS, Bounds, Params
from tasks.config.architectures import Architecture, Auto
from tasks.config.examples import example_yaml
from tasks.errors import InputError

# Sections that may be one of several classes, and the key that chooses among them.
UNIONS: dict[tuple[str, ...], str] = {
    ("train", "architecture"): "name",
    ("prepare", "source"): "kind",
}
TAGS = tuple(UNIONS.values())
RENAMED = {"train.keep": "train.checkpoint"}
"""Former names of parameters, and the present ones."""
NEXT = (
    "`modelmint params` says what each parameter means; `modelmint train --look` trains without "
    "gates, shows every number and registers nothing."
)


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: the file is missing, is not YAML, or is not a mapping.
    """
    return parse(content(path), path)


def content(path: Path) -> bytes:
    """The bytes of a parameter file. Raises `InputError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the parameters: {path}: {error.strerror}. "
            "Give an existing file with --params, or change to the folder with params.yaml."
        ) from error


def parse(content: bytes, path: Path) -> dict[str, Any]:
    """The mapping in `content`; `path` is for messages.

    Raises:
        InputError: it is not YAML, or not a mapping.
    """
    try:
        data = YAML(typ="safe").load(content.decode())
    except (YAMLError, ValueError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} must have sections ({', '.join(Params.model_fields)})")
    return data


def override(data: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of `data` with each `section.key=value` applied; values are parsed as YAML.

    An override of the architecture or the kind of source removes the other keys of that section,
    because they belong to the former choice.

    Raises:
        InputError: an assignment does not have that form, or treats a value as a section.
    """
    result: dict[str, Any] = _copy(data)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *parents, key = path.strip().split(".")
        if not equals or not parents or not all([*parents, key]):
            raise InputError(
                f"-S {assignment}: not of the form section.key=value, such as train.epochs=3"
            )
        try:
            value = YAML(typ="safe").load(text)
        except (YAMLError, ValueError) as error:  # ValueError: an impossible date
            raise InputError(f"-S {assignment}: the value is not YAML") from error
        section = result
        for parent in parents:
            inner = section.setdefault(parent, {})
            if isinstance(inner, str) and parent == "architecture":
                inner = section[parent] = {"name": inner}
            if not isinstance(inner, dict):
                raise InputError(
                    f"-S {assignment}: {parent} is a value, not a section; it has no {key}"
                )
            section = inner
        if UNIONS.get(tuple(parents)) == key and section.get(key) not in (None, value):
            section.clear()
        section[key] = value
    return result


def validate(data: Mapping[str, Any], where: str) -> Params:
    """The parameters in `data`; `where` is their origin, for messages.

    Raises:
        InputError: has one line for each mistake: where it is, what was given, what is allowed.
    """
    try:
        return Params.model_validate(dict(data))
    except ValidationError as error:
        lines = [_explain(e) for e in error.errors()]
        message = f"{where}: " + f"\n{where}: ".join(lines)
        lacking = [e["loc"] for e in error.errors() if e["type"] == "missing"]
        if shown := example_yaml(data, lacking):
            indented = "\n".join(f"    {line}" for line in shown.splitlines())
            message += f"\nFor example:\n\n{indented}\n\n{NEXT}"
        raise InputError(message) from error


def load(path: Path, assignments: Iterable[str] = (), *, look: bool = False) -> Params:
    """The parameters of a file, with overrides. With `look`, gates and a model name are optional.

    Raises:
        InputError: as `read`, `override` and `validate` do.
    """
    data = override(read(path), assignments)
    if look:
        # Only these two keys get defaults; the rest of the sections is checked as usual.
        for section, key, value in (("evaluate", "gates", {}), ("registration", "name", "look")):
            inner = data.get(section)
            if inner is None or isinstance(inner, dict):
                data[section] = {key: value} | (inner or {})
    return validate(data, path.name)


def add_missing_sections(path: Path) -> str:
    """Append missing optional sections to a file, as empty mappings. Returns a line for the log.

    DVC records only sections that are in the file: if one is missing, `dvc repro` fails after the
    stage. Returns an empty string if nothing was missing.

    Raises:
        InputError: the file cannot be written, or its syntax allows no appended lines.
    """
    before = content(path)
    data = parse(before, path)
    fields = Params.model_fields.items()
    # No stage reads `retrain` and `tune`, so DVC does not record them.
    apart = ("retrain", "tune")
    optional = [n for n, field in fields if not field.is_required() and n not in apart]
    missing = [name for name in optional if name not in data]
    if not missing:
        return ""
    added = "".join(f"{name}: {{}}\n" for name in missing)
    ending = "\r\n" if b"\r\n" in before else "\n"
    start = "" if before.endswith(b"\n") else ending
    text = before + (start + added.replace("\n", ending)).encode()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(text)
        shutil.copymode(path, part)
        if read(part) != {**data, **{name: {} for name in missing}}:
            raise InputError("the syntax of the file allows no appended lines")
        if content(path) != before:
            raise InputError("the file was edited in the meantime")
        part.replace(path.resolve())
    except (InputError, OSError) as error:
        raise InputError(
            f"{path.name}: the section {', '.join(missing)} is missing, and DVC cannot record a "
            f"run without it. Add this line: {added.strip()}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return (
        f"{path.name} had no section {', '.join(missing)}; added {added.strip()!r} (all defaults), "
        "because DVC records only sections that are in the file"
    )


def differences(params: Params, other: Params) -> dict[str, Any]:
    """The values of `params` that differ from `other`, by names such as `train.epochs`."""
    before = flat(other.model_dump(mode="json"))
    given = flat(params.model_dump(mode="json"))
    return {name: v for name, v in given.items() if name not in before or before[name] != v}


def flat(data: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The values of nested mappings by names such as `train.epochs`."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def write(data: Mapping[str, Any], path: Path) -> None:
    """Write a mapping as YAML, atomically."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(dict(data), file)
    part.replace(path)


def _copy(data: Any) -> Any:
    return {k: _copy(v) for k, v in data.items()} if isinstance(data, dict) else data


def _explain(error: ErrorDetails) -> str:
    """One pydantic error as `train.epoch: unknown key ...; did you mean epochs?`."""
    loc = error["loc"]
    # In a union, pydantic adds the member's tag to the location; it is not a key of the YAML.
    shown, owner = _follow(loc)
    name, given = ".".join(shown), error.get("input")
    match error["type"]:
        case "extra_forbidden":
            if name in RENAMED:
                return f"{name}: this parameter is now called {RENAMED[name]}; rename it"
            if owner is Auto:
                return f"{name}: {_not_of_auto(str(loc[-1]))}"
            allowed = list(owner.model_fields) if owner else []
            return f"{name}: unknown key; {_nearest(str(loc[-1]), allowed)}"
        case "missing":
            return f"{name}: required, but missing"
        case "union_tag_invalid":
            allowed = error["ctx"]["expected_tags"].replace("'", "").split(", ")
            if shown == ["train", "architecture"]:
                allowed += PRESETS
            tag = str(error["ctx"]["tag"])
            return f"{name}: unknown {error['ctx']['discriminator']} {tag!r}; " + _nearest(
                tag, allowed
            )
        case "union_tag_not_found":
            key = error["ctx"]["discriminator"].strip("'")
            return f"{name}: the key {key!r} is missing, which chooses one; given was {given!r}"
        case "literal_error":
            allowed = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return f"{name}: {given!r} is not allowed; {_nearest(str(given), allowed)}"
        case "value_error":
            return ": ".join(filter(None, (name, str(error["ctx"]["error"]))))
        case _:
            return f"{name}: {_lower(error['msg'])}; given was {given!r}"


def _not_of_auto(key: str) -> str:
    members = get_args(get_args(Architecture)[0])
    having = [str(*_tags(member)) for member in members if key in member.model_fields]
    which = f"one that has it: {', '.join(having)}" if having else "a network"
    return (
        f"auto chooses the network and its parameters, and has no {key!r}. Remove the key, or set "
        f"train.architecture.name to {which}"
    )


def _follow(loc: tuple[int | str, ...]) -> tuple[list[str], type[BaseModel] | None]:
    """The location as a user writes it, and the class that the last key belongs to."""
    shown: list[str] = []
    owner: type[BaseModel] | None = None
    here: Any = Params
    for part in loc:
        members = get_args(get_args(here)[0]) if get_origin(here) is Annotated else ()
        tagged = [m for m in members if isinstance(m, type) and part in _tags(m)]
        if tagged:
            here = tagged[0]
            continue
        if isinstance(part, str) and part.startswith("["):  # "[key]", or the form of a gate
            here = Bounds if part == "[bounds]" else here
            continue
        shown.append(str(part))
        if get_origin(here) is dict:  # a key of the user's own
            here = get_args(here)[1]
            continue
        owner = here if isinstance(here, type) and issubclass(here, BaseModel) else None
        field = owner.model_fields.get(str(part)) if owner else None
        if field is None:
            here = None
        elif field.discriminator:
            here = Annotated[field.annotation, field.discriminator]
        else:
            here = field.annotation
    return shown, owner


def _tags(member: type[BaseModel]) -> tuple[Any, ...]:
    return next(
        (
            get_args(field.annotation)
            for name, field in member.model_fields.items()
            if name in TAGS and get_origin(field.annotation) is Literal
        ),
        (),
    )


def _nearest(given: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(given, allowed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(allowed)}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
