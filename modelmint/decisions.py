"""Methods of the Python interface that change versions, aliases and policies.

Each change is an event in the history.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelmint import arguments
from modelmint.base import RegistryBase
from modelmint.errors import FailedEvaluation
from modelmint.targets import alias_of, model_of
from registry import CHAMPION, Alias, Policy
from registry.display.describing import failed

if TYPE_CHECKING:
    from flows.evaluation import EvaluationReport


class Decisions(RegistryBase):
    """`actor` is recorded as who did it (default: the user), `reason` as why."""

    def note(self, reference: Any, text: str, *, actor: str | None = None) -> None:
        """Add a remark about a version to the history.

            >>> registry.note("pets:2", "unsure of grey dogs")
            >>> registry.history("pets:2", limit=1)[0].reason
            'unsure of grey dogs'

        Raises:
            InvalidReference, NotFound: the version does not exist.
            InvalidCandidate: the text is empty, or cannot be stored.
        """
        self._call(self._inner.note, reference, actor, text=text)

    def tag(self, reference: Any, key: str, value: str | None, *, actor: str | None = None) -> None:
        """Set a tag of a version; None as its value removes it.

            >>> registry.tag("pets:2", "team", "vets")
            >>> registry.resolve("pets:2").version.tags["team"]
            'vets'

        Raises:
            InvalidReference, NotFound: the version does not exist.
        """
        self._call(self._inner.tag, reference, actor, key=key, value=value)

    def promote(
        self,
        reference: Any,
        alias: str = CHAMPION,
        *,
        reason: str = "by hand",
        expect_revision: int | None = None,
        actor: str | None = None,
    ) -> Alias:
        """Point an alias to a version, without comparing metrics.

        A candidate can become champion only if its newest evaluation passed. If an approved version
        failed its newest evaluation, it is promoted with the warning `FailedEvaluation`.

            >>> registry.promote("pets:1", "canary", reason="a look").version
            1

        Args:
            reference: The version.
            alias: The alias to move.
            reason: Why.
            expect_revision: The revision of the alias that the decision was based on; None moves
                it whatever its revision is.
            actor: Who decides.

        Raises:
            InvalidReference, NotFound: the version does not exist.
            Conflict: the alias is not at that revision.
            Refused: the version is archived, or cannot be champion without an approval.
        """
        version = self._resolve(reference).version
        moved = self._inner.promote(
            version.model,
            version.version,
            alias,
            expect_revision=expect_revision,
            actor=self._actor(actor),
            reason=reason,
        )
        self._warn(moved)
        return moved

    def rollback(
        self,
        reference: Any,
        *,
        reason: str = "by hand",
        expect_revision: int | None = None,
        actor: str | None = None,
    ) -> Alias:
        """Point an alias, NAME or NAME@ALIAS, back to the version that it pointed to before.

        Warns with `FailedEvaluation` if the newest evaluation of that version failed.

            >>> registry.rollback("pets", reason="too many cats").version
            1

        Raises:
            InvalidReference, NotFound: the alias does not exist.
            Conflict: the alias is not at that revision.
            Refused: no version that may have the alias had it before.
        """
        name, alias = alias_of(reference)
        moved = self._inner.rollback(
            name,
            alias,
            expect_revision=expect_revision,
            actor=self._actor(actor),
            reason=reason,
        )
        self._warn(moved)
        return moved

    def _warn(self, moved: Alias) -> None:
        if said := failed(self._inner.resolve(f"{moved.model}:{moved.version}").version):
            warnings.warn(said, FailedEvaluation, stacklevel=3)

    def unset(self, reference: Any, *, reason: str = "by hand", actor: str | None = None) -> None:
        """Remove an alias, NAME@ALIAS; the version stays.

            >>> registry.unset("pets@canary")

        Raises:
            InvalidReference, NotFound: the alias does not exist.
        """
        name, alias = alias_of(reference, named=True)
        self._inner.unset(name, alias, actor=self._actor(actor), reason=reason)

    def evaluate(
        self,
        reference: Any,
        data: str | Path | Sequence[str | Path],
        gates: Mapping[str, float],
        *,
        target: str | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        dry_run: bool = False,
        actor: str | None = None,
    ) -> "EvaluationReport":
        """Evaluate a version on labelled rows and record the result as its newest evaluation.

            >>> report = registry.evaluate(
            ...     "pets:2", "../data/prepared/test.arrow", {"accuracy": 0.9}, dry_run=True
            ... )
            >>> report.passed, report.metrics["accuracy"]
            (True, 1.0)

        Args:
            reference: The version.
            data: The path or paths of files with the column to predict, of a folder with one
                sub-folder of images for each class, or of a prepared split.
            gates: By metric, the lowest value that passes (highest where lower is better).
            target: The column of the labels; default: the one it was trained on.
            device: Where ONNX Runtime computes.
            dry_run: Compute the metrics and record nothing; needs no gates.
            actor: Who does it.

        Raises:
            InvalidReference, NotFound: the version does not exist.
            InputError: a gate is invalid, or the files do not fit the version.
            Corrupt: a file of it is missing or was changed.
        """
        from flows.evaluation import evaluate_version
        from flows.gates import gates_from

        dry_run = arguments.flag("dry_run", dry_run)
        arguments.choice("device", device, ("auto", "cpu", "cuda"))
        return evaluate_version(
            self._inner,
            self._resolve(reference),
            arguments.paths("data", data),
            gates_from(gates),
            actor=self._actor(actor),
            target=target,
            device=device,
            record=not dry_run,
        )

    def record_evaluation(
        self, reference: Any, report: dict[str, Any], *, actor: str | None = None
    ) -> None:
        """Record an evaluation made elsewhere as the newest one of a version.

            >>> registry.record_evaluation("pets:2", {"passed": False, "by": "the vets"})
            >>> registry.history("pets:2", limit=1)[0].payload["passed"]
            False

        Args:
            reference: The version.
            report: Plain JSON values; it passed where `passed` is True.
            actor: Who does it.

        Raises:
            InvalidReference, NotFound: the version does not exist.
            InvalidCandidate: the report is not plain JSON.
        """
        self._call(self._inner.evaluate, reference, actor, evaluation=report)

    def approve(self, reference: Any, *, reason: str = "by hand", actor: str | None = None) -> None:
        """Approve a version whose newest evaluation passed; only approved versions become champion.

            >>> registry.approve("pets:2", reason="I looked at the dogs")

        Raises:
            InvalidReference, NotFound: the version does not exist.
            Refused: it is archived, did not pass, or needs the approval of somebody else.
        """
        self._call(self._inner.approve, reference, actor, reason=reason)

    def reject(self, reference: Any, *, reason: str = "by hand", actor: str | None = None) -> None:
        """Reject a version: it cannot become champion unless it is approved later.

            >>> registry.reject("pets:2", reason="too many cats")

        Raises:
            InvalidReference, NotFound: the version does not exist.
            Refused: it is the champion, or archived.
        """
        self._call(self._inner.reject, reference, actor, reason=reason)

    def archive(self, reference: Any, *, reason: str = "by hand", actor: str | None = None) -> None:
        """Archive a version that nothing uses; it can no longer predict.

            >>> registry.archive("pets:2", reason="superseded")

        Raises:
            InvalidReference, NotFound: the version does not exist.
            Refused: an alias, a batch job or another version uses it.
        """
        self._call(self._inner.archive, reference, actor, reason=reason)

    def unarchive(
        self, reference: Any, *, reason: str = "by hand", actor: str | None = None
    ) -> None:
        """Make an archived version a candidate again.

            >>> registry.unarchive("pets:2", reason="needed after all")

        Raises:
            InvalidReference, NotFound: the version does not exist.
            Refused: it is not archived, or its files were purged.
        """
        self._call(self._inner.unarchive, reference, actor, reason=reason)

    def _call(self, method: Callable[..., None], of: Any, actor: str | None, **given: Any) -> None:
        """Call a method of the registry that changes one version."""
        version = self._resolve(of).version
        method(version.model, version.version, actor=self._actor(actor), **given)

    def set_policy(
        self,
        model: Any,
        *,
        four_eyes: bool | None = None,
        protected: Sequence[str] | None = None,
        keep_last: int | None = None,
        keep_days: int | None = None,
        keep_holders: int | None = None,
        actor: str | None = None,
    ) -> Policy:
        """Change the rules that are given; returns all rules of the model.

            >>> registry.set_policy("pets", keep_last=20).keep_last
            20

        Args:
            model: The model.
            four_eyes: Whether a protected alias needs an approval by somebody who did not train
                the version.
            protected: The aliases that need an approved version; always includes `champion`.
            keep_last: Retention keeps this number of newest versions; 0: no rule.
            keep_days: Retention keeps versions younger than this; 0: no rule.
            keep_holders: Retention keeps this number of earlier champions.
            actor: Who decides.

        Raises:
            InvalidReference, NotFound: the model does not exist.
            InvalidCandidate: a rule is of the wrong type.
            Refused: an alias cannot be protected now.
        """
        return self._inner.change_policy(
            model_of(model),
            four_eyes=four_eyes,
            protected=protected,
            keep_last=keep_last,
            keep_days=keep_days,
            keep_holders=keep_holders,
            actor=self._actor(actor),
        )
