"""`modelmint`: train, predict, look at the registry, serve on schedules.

Nothing heavy is imported before a command needs it: `modelmint --help` answers at once.
"""

import gc
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import models, output, runs
from flows.settings import Places, Settings, shown
from registry import (
    InvalidCandidate,
    InvalidQuery,
    InvalidReference,
    NotFound,
    Refused,
    RegistryError,
)
from tasks.errors import InputError
from tasks.files.suffixes import PREDICTED

STATUS_ERROR, STATUS_INPUT, STATUS_REFUSED = 1, 2, 3

app = typer.Typer(
    help="From raw data to predictions that can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit status: 0 done, 2 the input was wrong, 3 a gate or a rule refused, 1 else.",
)
app.add_typer(models.app, name="models")
app.add_typer(runs.app, name="runs")

ParamsOption = Annotated[Path, typer.Option("--params", help="The parameters of the run.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "-S",
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Another value for this run alone, as in train.epochs=3. May be given many times.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output.")
]


@app.command()
def train(
    params: ParamsOption = Path("params.yaml"),
    overrides: SetOption = None,
    look: Annotated[
        bool,
        typer.Option("--look", help="Train, show every number, register nothing; needs no gates."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make every stage current, then judge, register and promote what came out.

    With other parameters than those of params.yaml the run gets a worktree of its own.
    """
    from flows import launch

    given = _check(params, overrides, look=look)
    launch.prepare_prefect(output.say)
    try:
        outcome = launch.train(given, overrides or [], look=look)
    except KeyboardInterrupt:
        output.say("Stopped. The same command resumes at the stage that was running.")
        raise
    output.training(outcome)
    if as_json:
        output.machine(outcome.as_dict())
    if not outcome.status and look:
        output.next_steps(
            ("modelmint params evaluate", "which gates there are, for params.yaml"),
            ("modelmint train", "with gates: register, and let the version challenge"),
        )
    elif not outcome.status:
        output.next_steps(
            (f"modelmint models show {outcome.version}", "metrics, parameters and lineage"),
            (f"modelmint models history {outcome.model}", "who was promoted, and why"),
            (f"modelmint predict {outcome.model} INPUT --output DIR", "use the champion"),
        )
    raise typer.Exit(outcome.status)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(metavar="NAME[@ALIAS|:VERSION]")],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help=f"{', '.join(PREDICTED)}; folders too.")
    ],
    folder: Annotated[
        Path, typer.Option("--output", help="Folder for predictions.parquet and manifest.json.")
    ],
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run.")] = "auto",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each class too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Predict files with a registered model, in ONNX Runtime. A bare NAME means its champion."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from flows.job import run_job, signature_of
    from tasks.inputs import find

    with Places.of_registry(files=True).open_registry() as registry:
        resolved = registry.resolve(model)
        files = find(inputs, signature_of(resolved.version))
        bar = Progress(
            "predicting",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=output.people,
            transient=True,
            disable=not output.people.is_terminal,
        )
        with bar:
            rows = bar.add_task("", total=sum(file.rows for file in files))
            report = run_job(
                registry,
                resolved,
                files,
                folder,
                device=device,
                probabilities=probabilities,
                progress=lambda done: bar.advance(rows, done),
            )
    again = " (they were there already: same input, same model)" if report.fresh else ""
    output.say(f"{report.rows:,} rows predicted with {report.model} on {report.provider}{again}")
    output.say(report.output)
    for remark in report.remarks:
        output.say(remark)
    if as_json:
        output.machine(asdict(report))


@app.command()
def run(as_json: JsonOption = False) -> None:
    """The main job: the training flow, then a batch job on the test split."""
    from flows import launch

    started = time.monotonic()
    settings = Settings.from_environment()
    _check(settings.root / "params.yaml", None)
    launch.prepare_prefect(output.say)
    outcome = launch.train("params.yaml", [])
    job, problem = None, None
    if not outcome.status:
        predicting = time.monotonic()
        try:
            job = launch.predict(
                f"{outcome.model}@champion", ["data/prepared/test.arrow"], "predictions"
            )
        except (InputError, RegistryError) as error:
            problem = error  # what was trained is worth a summary all the same
        outcome.add_step("predict", time.monotonic() - predicting)
    outcome.seconds = time.monotonic() - started
    output.training(outcome, job)
    if as_json:
        output.machine({"training": outcome.as_dict(), "job": asdict(job) if job else None})
    if problem:
        raise problem
    if job:
        output.next_steps(
            ("modelmint train -S train.architecture=mlp", "train a challenger"),
            (f"modelmint models show {outcome.version}", "metrics, parameters and lineage"),
            (f"modelmint serve    # in {settings.root.name}", "schedules, and the Prefect UI"),
        )
    raise typer.Exit(outcome.status)


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Where its Prefect server listens; 127.0.0.1 if not given.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="The port of its Prefect server; 4200 if not given.")
    ] = None,
) -> None:
    """Serve the deployments of prefect.yaml on their schedules, with the Prefect UI.

    A Prefect server is started where none answers. Whatever is killed is started again.
    """
    from flows import serve as serving

    raise typer.Exit(serving.serve(Settings.from_environment().root, output.say, host, port))


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
    add_help_option=False,
)
def prefect(context: typer.Context) -> None:
    """Prefect's own commands, told which server runs, as in `modelmint prefect flow-run ls`."""
    from flows.launch import prefect_command

    prefect_command(context.args)


@app.command()
def params(
    section: Annotated[
        str | None, typer.Argument(metavar="SECTION", help="Such as prepare or train.optimizer.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print every parameter with its meaning, bounds and default."""
    from cli import parameters

    found = parameters.chosen(section)
    if as_json:
        output.machine(parameters.documents(found))
        return
    for line in parameters.lines(found):
        output.say(line)


@app.command()
def code(
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; exit status 1 if they differ.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Update code.json to the installed code, and say which stages become stale.

    Comments, docstrings and formatting do not count. Commit code.json; after a merge, run this
    again.
    """
    from tasks import fingerprint
    from tasks.pipeline import STEPS

    root = Settings.from_environment().root
    changes = fingerprint.changes(root, STEPS)
    if not check:
        fingerprint.record(root, fingerprint.present(STEPS))
    becomes = "would become" if check else "becomes"
    for change in changes:
        output.say(f"{change.stage} {becomes} stale: {change}")
    if not changes:
        output.say(f"{fingerprint.FILE} describes the installed code: no stage becomes stale")
    elif check:
        output.say(f"{fingerprint.FILE} does not describe the installed code; run `modelmint code`")
    else:
        output.say(f"updated {fingerprint.FILE}; commit it")
    if as_json:
        output.machine({change.stage: list(change.files) for change in changes})
    if check and changes:
        raise typer.Exit(STATUS_ERROR)


@app.command()
def config(as_json: JsonOption = False) -> None:
    """List the settings: where things are kept, and the variables that say so."""
    rows = shown()
    output.table(
        ["variable", "value"],
        [[name, value or "not set, and no project is here"] for name, value in rows.items()],
    )
    if as_json:
        output.machine(rows)


def _check(params: Path, overrides: list[str] | None, *, look: bool = False) -> str:
    """Try parameters and registry before Prefect is even imported; the path for the flow."""
    from tasks import fingerprint
    from tasks import params as parameters
    from tasks.pipeline import STEPS

    settings = Settings.from_environment()
    with settings.open_registry() as registry:
        registry.reach()
    path = params.absolute() if params.exists() else settings.root / params
    parameters.load(path, overrides or [], look=look)
    fingerprint.refuse_changed(settings.root, STEPS)
    return str(path.relative_to(settings.root) if path.is_relative_to(settings.root) else path)


def main() -> None:
    """The console script: what a user can mend is one message and a status, no traceback."""
    from flows.server import ServerDown

    try:
        app()
    except (InputError, InvalidCandidate, InvalidQuery, InvalidReference, NotFound) as error:
        output.error(str(error))
        sys.exit(STATUS_INPUT)
    except Refused as error:
        output.error(str(error))
        sys.exit(STATUS_REFUSED)
    except (RegistryError, ServerDown) as error:
        output.error(str(error))
        sys.exit(STATUS_ERROR)
    finally:
        gc.freeze()  # the end of the process need not look through all that was imported
