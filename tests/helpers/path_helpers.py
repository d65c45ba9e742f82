"""A registry with the bundle of a workspace."""

from registry_helpers import bundle_candidate

from registry import Registry
from tasks.workspace import Workspace


def register(workspace: Workspace) -> Registry:
    """A registry in which the workspace's bundle is version 1 and champion."""
    registry = Registry(f"sqlite:///{workspace.root}/registry.db", workspace.root / "artifacts")
    version = registry.register("sample", bundle_candidate(workspace), actor="ada").version
    registry.promote("sample", version.version, expect_revision=0, actor="ada", reason="first")
    return registry
