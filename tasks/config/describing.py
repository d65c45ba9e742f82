"""All parameters with type, bounds, default and meaning, from the schema of `Params`."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tasks.config import Params
from tasks.config.section import Section

Schema = dict[str, Any]
_TYPES = {"integer": "a whole number", "number": "a number", "string": "text"}
_BOUNDS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "must match {}",
}


@dataclass(frozen=True)
class Parameter:
    """A key of `params.yaml`, or a section of keys."""

    path: str
    """`train.optimizer.learning_rate`."""
    only: str
    """The choice that it belongs to, such as `kind: image`; empty if it always applies."""
    type: str
    """In words, with bounds: `a whole number >= 1`, `one of relu, gelu, tanh`; or `section`."""
    required: bool
    default: Any
    """As parsed from YAML; None also if there is no default."""
    meaning: str

    @property
    def section(self) -> bool:
        """Whether it holds other parameters."""
        return self.type == "section"


def parameters() -> list[Parameter]:
    """All sections and parameters, in the order of their declaration."""
    schema = Params.model_json_schema()
    for section in _sections(Section):
        owner = schema["$defs"].get(section.__name__, schema if section is Params else {})
        for name, meaning in _meanings(section).items():
            if name in owner.get("properties", {}):
                owner["properties"][name]["description"] = meaning
    return list(_of(schema, schema["$defs"], "", ""))


def _sections(owner: type[Section]) -> Iterator[type[Section]]:
    for section in owner.__subclasses__():
        yield section
        yield from _sections(section)


def _meanings(section: type[Section]) -> dict[str, str]:
    """The text below each field of a class and of its base classes.

    pydantic's `use_attribute_docstrings` reads the same, but in each process that imports the
    parameters, for 0.2 s.
    """
    found: dict[str, str] = {}
    for owner in reversed(section.__mro__):
        if issubclass(owner, Section):
            defined = ast.parse(inspect.getsource(owner)).body[0]
            assert isinstance(defined, ast.ClassDef)
            for field, text in pairwise(defined.body):
                match field, text:
                    case (
                        ast.AnnAssign(target=ast.Name(name)),
                        ast.Expr(ast.Constant(str(meaning))),
                    ):
                        found[name] = meaning
    return found


def _of(owner: Schema, defs: Schema, prefix: str, only: str) -> Iterator[Parameter]:
    required = set(owner.get("required", ()))
    for name, field in owner["properties"].items():
        path = f"{prefix}{name}"
        members = [defs[ref["$ref"].rpartition("/")[2]] for ref in field.get("oneOf", ())]
        nested = defs[field["$ref"].rpartition("/")[2]] if "$ref" in field else None
        meaning, default = _line(field, nested), field.get("default")
        if not members and nested is None:
            kind = _type(field, defs)
            if "const" in field:  # the discriminator, such as `kind`: describe the chosen class
                meaning = _text(owner.get("description", ""))
            yield Parameter(path, only, kind, name in required, default, meaning)
            continue
        yield Parameter(path, only, "section", name in required, None, meaning)
        if nested is not None:
            yield from _of(nested, defs, f"{path}.", only)
        for member in members:
            key = field["discriminator"]["propertyName"]
            choice = f"{key}: {member['properties'][key]['const']}"
            yield from _of(_key_first(member, key), defs, f"{path}.", choice)


def _key_first(member: Schema, key: str) -> Schema:
    """The schema with the property `key` before all others."""
    properties = member["properties"]
    return member | {"properties": {key: properties[key]} | properties}


def _line(field: Schema, nested: Schema | None) -> str:
    return _text(field.get("description") or (nested or {}).get("description", ""))


def _text(description: str) -> str:
    """A docstring as one paragraph."""
    return " ".join(description.split())


def _type(field: Schema, defs: Schema) -> str:
    """A JSON schema in words."""
    if "$ref" in field:
        return _type(defs[field["$ref"].rpartition("/")[2]], defs)
    if options := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(_type(option, defs) for option in options)
    if "const" in field:
        return str(field["const"])
    if "enum" in field:
        return f"one of {', '.join(map(shown, field['enum']))}"
    kind = field.get("type")
    if not field:
        return "any value"
    if kind == "null":
        return "null"
    if kind == "boolean":
        return "true or false"
    bounds = [form.format(field[key]) for key, form in _BOUNDS.items() if key in field]
    if kind == "array":
        words = f"a list, each {_type(field['items'], defs)}"
        return "; ".join([words, *bounds])
    if kind == "object" and "properties" in field:
        return f"a mapping with some of {', '.join(field['properties'])}"
    if kind == "object":
        keys = field.get("propertyNames", {}).get("enum")
        each = _type(field["additionalProperties"], defs)
        named = f", of {', '.join(keys)}," if keys else ""
        return f"a mapping from names{named} to {each}"
    return " ".join([_TYPES[str(kind)], " and ".join(bounds)]).strip()


def shown(value: Any) -> str:
    """A default value as YAML, for a page or a message."""
    plain = isinstance(value, str) and re.fullmatch(r"\w[\w./-]*", value)
    return str(value) if plain else json.dumps(value, ensure_ascii=False)
