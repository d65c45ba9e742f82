"""Names of weights in a file, and their names in a network (`train.init_keys`)."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from tasks.errors import InputError
from tasks.words import some


class Renamed(NamedTuple):
    """A name in the network, and the keys of the map that led to it."""

    name: str
    by: tuple[str, ...]


def rename(names: Collection[str], keys: Mapping[str, str]) -> dict[str, Renamed]:
    """The names after `keys`, by the names in the file.

    A key is a part of a name, or several, as they stand between dots. It is replaced wherever it
    occurs; where several keys fit, the one with most parts is taken. So the order of the map is of
    no matter, which DVC would not record. The whole name of a weight renames only that one.
    """
    parts = {tuple(key.split(".")): key for key in keys if key not in names}
    return {
        name: Renamed(keys[name], (name,)) if name in keys else _replaced(name, parts, keys)
        for name in names
    }


def _replaced(name: str, parts: Mapping[tuple[str, ...], str], keys: Mapping[str, str]) -> Renamed:
    old, new, by = name.split("."), list[str](), list[str]()
    lengths = sorted({len(part) for part in parts}, reverse=True)
    while old:
        fitting = (parts[part] for n in lengths if (part := tuple(old[:n])) in parts)
        if (key := next(fitting, None)) is None:
            new.append(old.pop(0))
        else:
            new.append(keys[key])
            by.append(key)
            del old[: key.count(".") + 1]
    return Renamed(".".join(new), tuple(by))


def refuse_wrong_keys(
    renamed: Mapping[str, Renamed], keys: Mapping[str, str], network: Collection[str], file: str
) -> None:
    """Check what a map did to the names in a file; `network` has those of the network.

    Raises:
        InputError: a key is in no name of the file, or leads to no weight of the network.
    """
    for key, target in keys.items():
        after = {old: new for old, new in renamed.items() if key in new.by}
        if not after:
            raise InputError(
                f"train.init_keys: {key} is not a part of a name in {file}, or longer keys are "
                f"taken in its place. {_close(key, renamed, 'Names in the file')}"
            )
        if not any(new.name in network for new in after.values()):
            # The name that most keys agree with is likely to be nearly right.
            old = max(after, key=lambda name: len(after[name].by))
            name = after[old].name
            raise InputError(
                f"train.init_keys: {key}: {target} leads to no weight of this network; {old} "
                f"becomes {name}. {_close(name, network, 'Weights of the network')}"
            )


def refuse_two_for_one(pairs: Iterable[tuple[str, str]], file: str) -> None:
    """Raises `InputError` if two names of a file became the same weight."""
    origins: dict[str, str] = {}
    for old, new in pairs:
        if (first := origins.setdefault(new, old)) != old:
            raise InputError(
                f"train.init_keys: {first} and {old} of {file} both become {new}. Change the entry "
                "of one of them"
            )


def _close(name: str, names: Collection[str], what: str) -> str:
    found = get_close_matches(name, names, n=3, cutoff=0.5)
    return f"{what}: {', '.join(found)}, ..." if found else f"{what}: {some(names)}"
