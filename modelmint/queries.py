"""Methods of the Python interface that only read: models, versions, history, lineage."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelmint import arguments, forms
from modelmint.base import RegistryBase
from modelmint.listing import Listing
from modelmint.targets import model_of, target
from modelmint.views import Comparison, VersionView
from registry import Event, InvalidQuery, Job, Refused, Resolved, Summary, Trace
from registry import Model as RegisteredModel
from registry.display import comparing
from registry.validation.checks import whole

if TYPE_CHECKING:  # ONNX Runtime and Arrow take a while to import
    from modelmint.loaded import Model

_PAGE_SIZE = 1000  # versions of one query


class Queries(RegistryBase):
    """A version is given as NAME (its champion), NAME@ALIAS, NAME:VERSION, or a record of one."""

    def load(self, reference: Any, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> "Model":
        """Open a version to predict with. Checks the SHA-256 of each file first.

            >>> model = registry.load("pets@champion")
            >>> model.version.ref
            'pets:2'

        Raises:
            InvalidReference, NotFound: the version does not exist.
            Refused: it is archived.
            Corrupt: a file of it is missing or was changed.
            InputError: its files are not a model of modelmint, or there is no CUDA device.
        """
        from modelmint.loaded import Model

        arguments.choice("device", device, ("auto", "cpu", "cuda"))
        resolved = self._resolve(reference)
        version = resolved.version
        if version.status == "archived":
            raise Refused(f"{version.ref} is archived and cannot predict; unarchive it first.")
        return Model(version, resolved.reference, self._inner.open(version), device)

    def show(self, reference: Any) -> VersionView:
        """Show a version: metrics, gates, origin, files and parameters.

            >>> registry.show("pets:2")
            pets:2
              status                    approved
            ...

        Raises:
            InvalidReference, NotFound: the version does not exist.
        """
        return VersionView(self._resolve(reference).version)

    def compare(self, left: Any, right: Any) -> Comparison:
        """Two versions side by side: metrics, gates, classes, parameters, data and code.

            >>> registry.compare("pets:1", "pets:2").same_bytes
            False

        Raises:
            InvalidReference, NotFound: the version does not exist.
        """
        versions = [self._resolve(reference).version for reference in (left, right)]
        return Comparison(comparing.compare(*versions))

    def resolve(self, reference: Any) -> Resolved:
        """The version that a reference points to now, with its record.

            >>> registry.resolve("pets").version.ref
            'pets:2'

        Raises:
            InvalidReference, NotFound: the version does not exist.
        """
        return self._resolve(reference)

    def files(self, reference: Any) -> dict[str, Path]:
        """The files of a version by their paths in it. Checks the SHA-256 of each.

            >>> registry.files("pets:2")["model.onnx"].is_file()
            True

        Raises:
            InvalidReference, NotFound: the version does not exist.
            Corrupt: a file of it is missing or was changed.
        """
        return self._inner.open(self._resolve(reference).version)

    def models(self) -> Listing[RegisteredModel]:
        """All models, by name.

        >>> registry.models().to_pandas()["versions"].tolist()
        [2]
        """
        found = self._inner.models()
        return Listing(found, forms.MODELS, forms.count(found, "model"))

    def search(
        self,
        model: Any = None,
        *where: str | Sequence[str],
        order: str = "newest",
        limit: int | None = None,
    ) -> Listing[Summary]:
        """The versions of one model, or of all models, that meet every condition.

            >>> [v.ref for v in registry.search("pets", "metric.accuracy>=0.5", "alias=champion")]
            ['pets:2']

        Args:
            model: A model's name, or None for all.
            where: Conditions: metric.NAME>=0.9, param.NAME=VALUE, tag.KEY=VALUE, alias=NAME,
                status=approved, dataset=HASH, created>=2026-01-31 and others.
            order: newest, metric.NAME (highest first) or metric.NAME:asc.
            limit: The highest number of versions; None: all.

        Raises:
            NotFound: the model does not exist.
            InvalidQuery: a condition, the order or the limit is invalid, or names a metric or a
                parameter that none of these versions has.
        """
        name = None if model is None else model_of(model)
        conditions = arguments.conditions(where)
        most = None if limit is None else whole("limit", limit, 1, error=InvalidQuery)
        found, more = [], True
        for page in self._pages(name, conditions, order, most):
            found += page.versions
            more = page.after is not None
        title = forms.count(found, "version")
        return Listing(found, forms.SUMMARIES, f"{title}; there are more" if more else title)

    def history(self, reference: Any, *, limit: int | None = None) -> Listing[Event]:
        """The events of a model, or of one alias or version, newest first.

            >>> registry.history("pets:2")[-1].kind
            'registered'

        Raises:
            InvalidReference, NotFound: the model does not exist.
        """
        of = target(reference)
        found = self._inner.history(of.name, alias=of.alias, version=of.version, limit=limit)
        return Listing(found, forms.EVENTS, forms.count(found, "event"))

    def trace(
        self,
        reference: Any,
        *,
        limit: int = 50,
        after: str | None = None,
        before: str | None = None,
    ) -> Trace:
        """What a version was made from (`version.lineage`), and what was made with it.

            >>> registry.trace("pets:2").children
            ()

        Returns one page: up to `limit` children and jobs. `child_count` and `job_count` are the
        totals; pass the result's `after` and `before` to get the next page.

        Raises:
            InvalidReference, NotFound: the version does not exist.
        """
        ref = self._resolve(reference).version.ref
        return self._inner.trace(ref, limit=limit, after=after, before=before)

    def jobs(self, model: Any = None, *, limit: int | None = None) -> Listing[Job]:
        """The batch jobs of a model, or of all models, newest first.

            >>> len(registry.jobs("pets"))
            0

        Raises:
            InvalidReference, NotFound: the model does not exist.
        """
        found = self._inner.jobs(None if model is None else model_of(model), limit=limit)
        return Listing(found, forms.JOBS, forms.count(found, "job"))

    def _pages(
        self, name: str | None, where: list[str], order: str, limit: int | None
    ) -> Iterator[Any]:
        left, after = limit, None
        while True:
            size = _PAGE_SIZE if left is None else min(left, _PAGE_SIZE)
            page = self._inner.search(name, where, order=order, limit=size, after=after)
            yield page
            after = page.after
            if left is not None:
                left -= len(page.versions)
            if after is None or left == 0:
                return
