"""The last backup of the registry, as the folder of backups itself says it.

The registry does not record that a backup was made: it could not know whether the folder still
exists. A manifest is written last, and is sealed.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.settings import BACKUP, Settings
from registry.artifacts import MANIFEST
from registry.transfer.backup_format import read_manifest
from tasks.errors import InputError


@dataclass(frozen=True)
class Backup:
    """A complete backup of this registry; its other files were not read."""

    folder: Path
    made_at: datetime


def last_backup(settings: Settings) -> Backup | None:
    """The backup in the folder of MODELMINT_BACKUP; None if that is not set.

    Raises:
        Corrupt: there is none, it is unfinished, or its manifest was changed.
        InputError: it is of another registry.
        RegistryError: the registry cannot be read.
    """
    if not (given := os.environ.get(BACKUP)):
        return None
    folder = Path(given).absolute()
    manifest = read_manifest(folder / MANIFEST)
    with settings.open_registry() as registry:
        if manifest.registry not in (None, registry.id):
            raise InputError(f"{folder} has a backup of another registry")
    made_at = datetime.fromisoformat(manifest.made_at)
    return Backup(folder, made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC))
