"""Methods of the Python interface for upkeep: verify, clean, back up, export, import, sign."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmint import arguments, forms
from modelmint.base import RegistryBase
from modelmint.listing import Listing
from modelmint.targets import model_of
from registry import InvalidQuery, Problem, Registration, Stray, Summary, integrity, upkeep
from registry.validation.checks import whole

if TYPE_CHECKING:
    from registry.signing import SignedVersion
    from registry.transfer.backup import BackupReport
    from registry.transfer.oci import Export


class Upkeep(RegistryBase):
    """The same as the commands of these names."""

    def verify(
        self,
        model: Any = None,
        *,
        since: int | None = None,
        public_key: str | Path | None = None,
    ) -> Listing[Problem]:
        """Check every file, version and event; returns the problems. Empty: none.

            >>> registry.verify()
            no problems: 2 versions, ...

        Args:
            model: A model's name, or None for all.
            since: The id of an event: check only what later events touched.
            public_key: A PEM file; also require a signature of every version by this key.

        Raises:
            InvalidReference, NotFound: the model or the event does not exist.
            Unreachable: the database or the store cannot be read.
        """
        name = None if model is None else model_of(model)
        if since is not None:
            since = whole("since", since, 1, error=InvalidQuery)
        found = integrity.verify(self._inner, name, since=since)
        problems = list(found.problems)
        if public_key is not None:
            from registry.signing import check_signatures

            problems += check_signatures(
                self._inner, arguments.path("public_key", public_key), name
            )
        verdict = "no problems in what was checked" if found.not_looked_at else "no problems"
        title = (
            forms.count(problems, "problem")
            if problems
            else f"{verdict}: {found.versions:,} versions, {found.files:,} files, "
            f"{found.events:,} events"
        )
        return Listing(problems, forms.PROBLEMS, title)

    def gc(
        self,
        *,
        dry_run: bool = False,
        grace_s: float = upkeep.DAY_S,
        purge: bool = False,
        unknown: bool = False,
        actor: str | None = None,
    ) -> Listing[Stray]:
        """Remove files that no version refers to; returns them.

            >>> registry.gc(dry_run=True)
            0 files

        Args:
            dry_run: Only list them.
            grace_s: Keep unreferenced files younger than this many seconds.
            purge: Also remove the files of archived versions.
            unknown: Also remove files that this database never knew: a later state may need them.
            actor: Who does it.

        Raises:
            Refused: there are such files, or the store belongs to another registry.
            Unreachable: the database or the store cannot be written.
        """
        dry_run, purge = arguments.flag("dry_run", dry_run), arguments.flag("purge", purge)
        unknown = arguments.flag("unknown", unknown)
        grace_s = arguments.seconds("grace_s", grace_s)
        strays = list(upkeep.gc(self._inner, dry_run=dry_run, grace_s=grace_s, unknown=unknown))
        if purge:
            strays += upkeep.purge(
                self._inner, actor=self._actor(actor), dry_run=dry_run, unknown=unknown
            )
        return Listing(strays, forms.STRAYS, forms.count(strays, "file"))

    def retain(
        self, model: Any = None, *, dry_run: bool = False, actor: str | None = None
    ) -> Listing[Summary]:
        """Archive the versions that the policy of their model no longer keeps; returns them.

            >>> registry.retain("pets", dry_run=True)
            0 versions

        Raises:
            InvalidReference, NotFound: the model does not exist.
        """
        dry_run = arguments.flag("dry_run", dry_run)
        name = None if model is None else model_of(model)
        retired = upkeep.retain(self._inner, name, actor=self._actor(actor), dry_run=dry_run)
        return Listing(retired, forms.SUMMARIES, forms.count(retired, "version"))

    def backup(self, folder: str | Path, *, replace: bool = False) -> "BackupReport":
        """Back up all rows and their files to a folder. A second backup copies only new files.

            >>> registry.backup(folder / "backup").files > 0
            True

        Args:
            folder: New, empty, or that of an earlier backup of this registry.
            replace: Overwrite a backup of another registry, or of a later state of this one.

        Raises:
            Refused: the folder has other files, or a backup that this registry does not continue.
            Corrupt: a file of the registry is damaged.
            Unreachable: the folder cannot be written, or the registry cannot be read.
        """
        from registry.transfer.backup import backup

        where = arguments.path("folder", folder)
        return backup(self._inner, where, replace=arguments.flag("replace", replace))

    def export(self, reference: Any, path: str | Path) -> "Export":
        """Write a version with its history to a tar archive, an OCI image layout.

            >>> registry.export("pets:1", folder / "pets-1.tar").version.ref
            'pets:1'

        Raises:
            InvalidReference, NotFound: the version does not exist.
            Corrupt: a file of it is missing or was changed.
            Refused: that path exists.
            Unreachable: the file cannot be written.
        """
        from registry.transfer.oci import export_version

        where = arguments.path("path", path)
        return export_version(self._inner, self._resolve(reference).version.ref, where)

    def import_version(
        self, path: str | Path, *, name: str | None = None, actor: str | None = None
    ) -> Registration:
        """Register an exported version under the next number here, as a candidate.

            >>> registry.import_version(folder / "pets-1.tar").created
            False

        Args:
            path: The archive.
            name: The model to import it into; by default its own.
            actor: Who does it.

        Raises:
            InvalidCandidate: the archive is damaged, or is not an export.
            InvalidReference: the name is not allowed.
            Conflict: this registry has it with other bytes, or under another name.
        """
        from registry.transfer.oci import import_version

        where = arguments.path("path", path)
        return import_version(self._inner, where, actor=self._actor(actor), name=name)

    def sign(
        self, reference: Any, private_key: str | Path, *, actor: str | None = None
    ) -> "SignedVersion":
        """Sign the files of a version with your key, a PEM file (OpenSSF model signing).

            >>> registry.sign("pets:1", folder / "key.pem").created
            True

        Raises:
            InvalidReference, NotFound: the version does not exist.
            Corrupt: a file of it is missing or was changed.
            RegistryError: the file is not such a key, or the extra `signing` is not installed.
        """
        from registry.signing import sign

        ref = self._resolve(reference).version.ref
        key = arguments.path("private_key", private_key)
        return sign(self._inner, ref, key, actor=self._actor(actor))
