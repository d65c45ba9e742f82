"""Retention: archive the versions that their model's policy no longer keeps."""

from registry.errors import Refused
from registry.queries import events, jobs, models, retention, states, summaries
from registry.records import Summary
from registry.registry import Registry
from registry.validation.arguments import checked


@checked
def retain(
    registry: Registry, name: str | None = None, *, actor: str, dry_run: bool
) -> list[Summary]:
    """Archive the versions that their model's policy no longer keeps; returns them.

    A policy keeps the newest `keep_last` versions, those younger than `keep_days`, the
    `keep_holders` latest holders of each protected alias, and every version that an alias, a
    prediction job or another version uses. A running job without a flow run that started over a
    week ago was killed: it does not keep its version, and is marked as lost.

    Raises:
        NotFound: the model does not exist.
    """
    chosen = registry.models() if name is None else [registry.model(name)]
    retired = []
    for model in chosen:
        if model.policy.keep_last is None and model.policy.keep_days is None:
            continue
        with registry.database.read() as c:
            unused = summaries.load(c, retention.unkept(c, model))
        for summary in unused:
            if not dry_run:
                try:
                    if not _retire(registry, model.name, summary.version, actor):
                        continue
                except Refused:
                    continue  # it was used since the query
            retired.append(summary)
    return retired


def _retire(registry: Registry, name: str, version: int, actor: str) -> bool:
    """Archive a version unless its model's policy or aliases have changed meanwhile."""
    with registry.database.write() as c:
        locked = models.lock(c, name)
        still = retention.unkept(c, models.load(c, name), version)
        if still:
            jobs.lose_dead(c, still[0].id)
            states.change(c, still[0].id, "archived")
            events.add(c, locked, "archived", actor, version=version, reason="retention policy")
        return bool(still)
