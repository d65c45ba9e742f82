"""`verify` finds no problem in the registry that the benchmarks measure."""

from registry_helpers import database_url

from benchmarks.scale_seed import Sizes, seed
from registry import Registry
from registry.integrity import verify


def test_the_seeded_registry_is_valid_with_jobs_and_parents(tmp_path):
    url = database_url(tmp_path)
    sizes = Sizes(versions=400, models=10, jobs=60)
    seed(url, tmp_path / "artifacts", sizes)
    with Registry(url, tmp_path / "artifacts") as registry:
        found = verify(registry)
    assert found.problems == []
    assert found.versions > sizes.versions
