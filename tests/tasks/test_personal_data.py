"""Sensitive columns: never features, and never written unhashed."""

import hashlib
import hmac

import numpy as np
import pytest
from prepare_helpers import (
    keys,
    put,
    refusal,
    report,
    run,
    signature,
    written,
)

from tasks.config import DigitsSource, Prepare, TabularSource

DIGITS = Prepare(source=DigitsSource(kind="digits", path="digits.csv.gz"), seed=1)


NAMES = [f"Person-{number}-secret" for number in range(60)]


def everything_written(folder):
    return b"".join(path.read_bytes() for path in sorted((folder / "prepared").iterdir()))


def test_sensitive_rule_drop_writes_no_sensitive_column(tmp_path):
    put(tmp_path, name=NAMES, born=np.arange(60) + 77_000_000)
    run(tmp_path, sensitive=["name", "born"])
    assert [c.name for c in signature(tmp_path).columns] == ["a", "n", "c"]
    assert written(tmp_path).column_names == ["key", "a", "n", "c", "target"]
    assert report(tmp_path)["sensitive_columns"] == {"name": "drop", "born": "drop"}
    content = everything_written(tmp_path)
    for number, name in enumerate(NAMES):
        assert name.encode() not in content
        assert (77_000_000 + number).to_bytes(8, "little") not in content


def test_sensitive_rule_hash_writes_keyed_hashes(tmp_path):
    put(tmp_path, name=[None, *NAMES[1:]], born=np.arange(60) + 77_000_000)
    (tmp_path / "salt").write_text("0123abcd\n")
    changes = {"sensitive_rule": "hash", "salt_file": "salt"}
    run(tmp_path, sensitive=["name", "born"], **changes)
    content = everything_written(tmp_path)
    assert b"secret" not in content
    assert b"0123abcd" not in content
    for split in keys(tmp_path):
        found = written(tmp_path, split).to_pydict()
        for row, name, born in zip(found["key"], found["name"], found["born"], strict=True):
            assert name == (digest(NAMES[row]) if row else None)
            assert born == digest(str(row + 77_000_000))
            assert (77_000_000 + row).to_bytes(8, "little") not in content
    assert [c.name for c in signature(tmp_path).columns] == ["a", "n", "c"]


def digest(value, key=b"0123abcd"):
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()


def test_a_sensitive_group_column_is_used_but_not_written(tmp_path):
    put(tmp_path, name=[NAMES[row // 4] for row in range(60)])
    run(tmp_path, group="name", sensitive=["name"])
    found = [{row // 4 for row in rows} for rows in keys(tmp_path).values()]
    assert not found[0] & found[1] | found[1] & found[2] | found[0] & found[2]
    assert b"secret" not in everything_written(tmp_path)


def test_sensitive_rule_hash_needs_a_key(tmp_path):
    put(tmp_path, name=NAMES)
    changes = {"sensitive": ["name"], "sensitive_rule": "hash", "salt_file": "salt"}
    said = refusal(tmp_path, **changes)
    assert said.startswith(f"{tmp_path}/salt: the salt file cannot be read: ")
    assert "Make one with `openssl rand -hex 32 > salt`, and keep it out of git and DVC." in said
    (tmp_path / "salt").write_text(" \n")
    assert refusal(tmp_path, **changes).startswith(f"{tmp_path}/salt: the salt file is empty. Make")
    (tmp_path / "elsewhere").write_text("key")
    run(tmp_path, **changes | {"salt_file": str(tmp_path / "elsewhere")})


def test_a_missing_sensitive_column_is_refused(tmp_path):
    put(tmp_path, name=NAMES)
    assert "did you mean 'name'?" in refusal(tmp_path, sensitive=["nme"])
    assert "'y' is the target" in refusal(tmp_path, sensitive=["y"])


def test_a_hashed_column_cannot_be_named_key_or_target(tmp_path):
    put(tmp_path, key=NAMES)
    (tmp_path / "salt").write_text("key")
    said = refusal(tmp_path, sensitive=["key"], sensitive_rule="hash", salt_file="salt")
    assert "a hashed column cannot have the name 'key'" in said


@pytest.mark.parametrize(
    ("given", "hashed"),
    [
        (["0101", "101"], ["0101", "101"]),
        (["1e3", "1000"], ["1e3", "1000"]),
        (["9223372036854775808", "9223372036854775809"], None),
        ([" ann", "bob "], ["ann", "bob"]),
        (["1.50", "1.5"], None),
        (["true", "True"], ["true", "true"]),
    ],
)
def test_csv_values_are_hashed_in_their_category_spelling(given, hashed, tmp_path):
    rows = [f"{row},{'ab'[row % 2]},{given[row % 2]}" for row in range(60)]
    (tmp_path / "in.csv").write_text("\n".join(["x,y,who", *rows]))
    (tmp_path / "salt").write_text("0123abcd")
    source = TabularSource(kind="tabular", path="in.csv", target="y")
    changes = {"sensitive": ["who"], "sensitive_rule": "hash", "salt_file": "salt"}
    run(tmp_path, Prepare(source=source, **changes))
    found = written(tmp_path)
    expected = [digest((hashed or given)[key % 2]) for key in found["key"].to_pylist()]
    assert found["who"].to_pylist() == expected
