"""Looking after a whole registry: remove files that nobody needs, archive old versions."""

from registry.upkeep.collection import DAY_S, gc, purge
from registry.upkeep.retention import retain

__all__ = ["DAY_S", "gc", "purge", "retain"]
