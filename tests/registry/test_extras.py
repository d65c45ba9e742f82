"""Using a missing extra raises an error that says how to install it."""

import sys
from pathlib import Path

import pytest
from registry_helpers import make_candidate

from registry import Registry, RegistryError
from registry.signing import sign
from registry.transfer.mlflow_import import import_from_mlflow


@pytest.mark.parametrize(
    ("module", "extra", "act"),
    [
        ("psycopg", "postgres", lambda r: Registry("postgresql://nobody@127.0.0.1:1/none", "a")),
        ("s3fs", "s3", lambda r: Registry("sqlite:///r.db", "s3://b/c").reach()),
        ("mlflow", "mlflow", lambda r: import_from_mlflow(r, "sqlite:///m.db", "m", actor="ada")),
        (
            "model_signing.signing",
            "signing",
            lambda r: sign(r, "m:1", Path("key.pem"), actor="ada"),
        ),
    ],
    ids=["postgresql", "bucket", "mlflow", "signing"],
)
def test_missing_extra_is_named_in_the_error(module, extra, act, tmp_path, monkeypatch):
    with Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "artifacts") as registry:
        registry.register("m", make_candidate(tmp_path / "b"), actor="ada")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
        with pytest.raises(RegistryError, match=rf"pip install 'modelmint\[{extra}\]'"):
            act(registry)
