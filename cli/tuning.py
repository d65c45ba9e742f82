"""`modelmint tune`: search better parameters of the training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output, status
from flows.settings import Settings
from tasks.words import counted

if TYPE_CHECKING:
    from flows.tuning.results import TuneOutcome


def tune(
    params: Annotated[Path, typer.Option("--params", help="File of parameters.")] = Path(
        "params.yaml"
    ),
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "-S",
            "--set",
            metavar="SECTION.KEY=VALUE",
            help="Another value for this study only, such as tune.trials=20. Can be repeated.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Trials that run at the same time on this machine.")
    ] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output.")
    ] = False,
) -> None:
    """Search better parameters of the training; register what is better than the defaults.

    The section tune of params.yaml says what to vary. Trials are chosen by the validation split;
    only the winner meets the test split, its gates and the champion. A command that was stopped
    goes on if it is given again. Commands on several machines work on one study if they use the
    same registry database.
    """
    given = _check(params, overrides or [])
    from flows import launch

    launch.prepare_prefect(output.say)
    try:
        outcome = launch.tune(given, overrides or [], workers)
    except KeyboardInterrupt:
        output.say("Stopped. The same command goes on with the same study.")
        raise
    _show(outcome)
    if as_json:
        output.print_json({"status": status.OF_TRAINING[outcome.end], **outcome.as_dict()})
    raise typer.Exit(status.OF_TRAINING[outcome.end])


def _check(params: Path, overrides: list[str]) -> str:
    """Check everything before Prefect is imported; returns the flow's path of the parameters."""
    from registry import extras
    from tasks import fingerprint
    from tasks import params as parameters
    from tasks.pipeline import STEPS
    from tasks.search_space import Space

    settings = Settings.from_environment()
    extras.load("optuna", "tune", "`modelmint tune`")
    with settings.open_registry() as registry:
        registry.reach()
    path = params.absolute() if params.exists() else settings.root / params
    tune = parameters.load(path, overrides).tune
    own = [one for one in overrides if not one.strip().startswith("tune.")]
    Space.of(parameters.override(parameters.read(path), own), tune, path.name)
    fingerprint.refuse_changed(settings.root, STEPS)
    return str(path.relative_to(settings.root) if path.is_relative_to(settings.root) else path)


def _show(outcome: "TuneOutcome") -> None:
    """Print the summary of a study, and of the training of its winner."""
    if outcome.training is not None:
        output.training(outcome.training)
    ended = ", ".join(f"{n} {state}" for state, n in outcome.trials.items())
    facts = [("study", outcome.study)] if outcome.study else []
    if outcome.proposed and outcome.study:
        facts.append(("varied", "proposals, since params.yaml has no tune.parameters"))
    if outcome.trials:
        total = counted(sum(outcome.trials.values()), "trial")
        facts.append(("trials", f"{total}: {ended}"))
    for one in outcome.repeated:
        name = "defaults" if one["trial"] is None else f"trial {one['trial']}"
        losses = [loss for loss in one["losses"] if loss is not None]
        shown = ", ".join("failed" if x is None else f"{x:.4f}" for x in one["losses"])
        spread = max(losses, default=0.0) - min(losses, default=0.0)
        facts.append((name, f"validation loss {shown}  (other seeds; spread {spread:.4f})"))
    for parameter, share in outcome.importances.items():
        facts.append(("importance", f"{share:4.0%}  {parameter}"))
    if outcome.verdict:
        facts.append(("verdict", outcome.verdict))
    if outcome.winner is None and outcome.ended_well:
        facts.append(("registered", "nothing was registered"))
    facts.append(("took", f"{outcome.seconds:.1f} s  (without the start of Prefect)"))
    output.table(["", ""], [[name, value] for name, value in facts])
    if not outcome.ended_well and outcome.training is None:
        output.error(outcome.message)
    if outcome.winner is not None and outcome.ended_well:
        set_ = " ".join(f"-S '{one}'" for one in outcome.overrides)
        output.next_steps(
            (f"modelmint train {set_}", "the same training again; or write them into params.yaml"),
        )
