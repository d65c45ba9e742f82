"""`modelmint`: create a project, train, predict, use the registry, run schedules.

Nothing heavy is imported before a command needs it, so `modelmint --help` is fast.
"""

import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli import (
    feedback,
    models,
    notifying,
    output,
    project,
    retraining,
    runs,
    status,
    tuning,
    watching,
)
from flows.errors import ServerDown
from flows.settings import Places, Settings, list_settings
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
from tasks.process import paused_gc
from tasks.serving import MAX_BAD

if TYPE_CHECKING:
    from flows.outcome import Outcome

app = typer.Typer(
    help="Train, evaluate and register PyTorch models, and predict with them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit status: 0 done, 2 invalid input, 3 a gate failed or a rule refused, 1 any other "
    "error.",
)
app.add_typer(models.app, name="models")
app.add_typer(runs.app, name="runs")
app.command()(project.new)
app.command()(project.code)
app.command("status")(watching.overview)
app.command()(watching.doctor)
app.command()(feedback.feedback)
app.command()(notifying.notify)
app.command()(retraining.retrain)
app.command()(tuning.tune)

ParamsOption = Annotated[Path, typer.Option("--params", help="File of parameters.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "-S",
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Another value for this run only, such as train.epochs=3. Can be repeated.",
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
        typer.Option("--look", help="Train, show every metric, register nothing; needs no gates."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run every stale stage, then register and promote the model if its gates pass.

    A run with other parameters than those in params.yaml gets a git worktree of its own.
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
        output.print_json(_document(outcome))
    if outcome.ended_well and look:
        output.next_steps(
            ("modelmint params evaluate", "the gates that params.yaml can have"),
            ("modelmint train", "with gates: register, and compare with the champion"),
        )
    elif outcome.ended_well:
        output.next_steps(
            *_commit_record(),
            (f"modelmint models show {outcome.version}", "metrics, parameters and lineage"),
            (f"modelmint models history {outcome.model}", "what was promoted, and why"),
            (f"modelmint predict {outcome.model} INPUT --output DIR", "use the champion"),
        )
    raise typer.Exit(status.OF_TRAINING[outcome.end])


def _commit_record() -> list[tuple[str, str]]:
    """The command that commits dvc.lock, where a run has changed it."""
    from flows.git import git

    if git(Settings.from_environment().root, "status", "--porcelain", "--", "dvc.lock"):
        return [("git add dvc.lock && git commit -m Train", "keep what the outputs were made from")]
    return []


@app.command()
def predict(
    model: Annotated[str, typer.Argument(metavar="NAME[@ALIAS|:VERSION]")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help=f"{', '.join(PREDICTED)}, or a folder; or such a file, folder or pattern "
            "in S3, as s3://BUCKET/FOLDER/*.csv.",
        ),
    ],
    folder: Annotated[
        Path, typer.Option("--output", help="Folder for predictions, quarantine and manifest.json.")
    ],
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run.")] = "auto",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each class too.")
    ] = False,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS=P", help="Predict this of two classes where its probability is >= P."
        ),
    ] = None,
    keep: Annotated[
        str, typer.Option(metavar="COLUMN,...", help="Columns of the input to pass through.")
    ] = "",
    form: Annotated[
        Literal["parquet", "csv", "jsonl"], typer.Option("--format", help="Of the predictions.")
    ] = "parquet",
    partition_by: Annotated[
        str, typer.Option(metavar="COLUMN,...", help="Write a folder for each value.")
    ] = "",
    max_bad: Annotated[
        str,
        typer.Option(
            metavar="SHARE|ROWS",
            help="Rows that may be set aside because they cannot be predicted, as in 0.5% or 100.",
        ),
    ] = MAX_BAD,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; default: one for each processor.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Scheduler of a Dask cluster that predicts; it must share all folders.",
        ),
    ] = None,
    new: Annotated[
        bool,
        typer.Option(
            "--new",
            help="INPUT are folders, also in S3: predict each file that was not predicted before.",
        ),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --new: predict all files again.")
    ] = False,
    after: Annotated[
        Literal["leave", "move"],
        typer.Option(help="With --new: what happens to the files; move puts them into done/."),
    ] = "leave",
    as_json: JsonOption = False,
) -> None:
    """Predict files with a registered model in ONNX Runtime. NAME alone means its champion.

    A command that was stopped goes on where it was if it is given again.
    """
    if (again or after != "leave") and not new:
        raise InputError("--again and --after are for --new; add it, or leave them out")
    from tasks import hashed

    if not new:  # which hashes only those that are new
        hashed.begin(map(Path, inputs))
    # No matrix is multiplied here; threads of OpenBLAS would spin for up to 0.1 s of CPU.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with paused_gc():  # 0.02 s
        from cli import predicting
        from flows.cluster import connected
        from flows.copies import Copies
        from flows.incremental import predict_new
        from flows.job import run_job, signature_of
        from flows.objects import is_url
        from tasks.predict import How
        from tasks.serving.options import BadLimit, Options, parse_threshold

        predicting.keep_pandas_out()
    options = Options(
        probabilities=probabilities,
        threshold=None if threshold is None else parse_threshold(threshold),
        keep=_names(keep),
        form=form,
        partition_by=_names(partition_by),
    )
    places = Places.of_registry(files=True)
    how = How(
        device=device,
        workers=workers,
        limit=BadLimit.parse(max_bad),
        cache=places.cache,
        notice=output.say,
    )
    if cluster is not None:  # its workers have other current folders
        inputs = [one if is_url(one) else str(Path(one).absolute()) for one in inputs]
        folder = folder.absolute()
    with (
        connected(cluster, output.say) as executor,
        places.open_registry() as registry,
        predicting.progress_bar() as (tell, show),
    ):
        how = replace(how, executor=executor, tell=tell, status=show)
        resolved = registry.resolve(model)
        if new:
            report = predict_new(
                registry,
                resolved,
                inputs,
                folder,
                options=options,
                how=how,
                again=again,
                after=after,
            )
        else:
            with Copies(inputs, folder, how) as copies:
                files = copies.find(inputs, signature_of(resolved.version))
                copies.job, how = folder, replace(how, check_input=copies.refuse_changed)
                job = run_job(registry, resolved, files, folder, options=options, how=how)
    if new:
        predicting.say_new(report, as_json)
    else:
        predicting.say_job(job, as_json)


def _names(text: str) -> tuple[str, ...]:
    """Names that a comma separates."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


@app.command()
def run(as_json: JsonOption = False) -> None:
    """Train, register and promote, then predict the test split."""
    from flows import launch

    started = time.monotonic()
    settings = Settings.from_environment()
    _check(settings.root / "params.yaml", None)
    launch.prepare_prefect(output.say)
    outcome = launch.train("params.yaml", [])
    job, problem = None, None
    if outcome.ended_well:
        predicting = time.monotonic()
        try:
            job = launch.predict(
                f"{outcome.model}@champion", ["data/prepared/test.arrow"], "predictions"
            )
        except (InputError, RegistryError) as error:
            problem = error  # raised after the summary of the training
        outcome.add_step("predict", time.monotonic() - predicting)
    outcome.seconds = time.monotonic() - started
    output.training(outcome, job)
    if as_json:
        output.print_json({"training": _document(outcome), "job": asdict(job) if job else None})
    if problem:
        raise problem
    if job:
        output.next_steps(
            ("modelmint train -S train.architecture=mlp", "train a challenger"),
            (f"modelmint models show {outcome.version}", "metrics, parameters and lineage"),
            (f"modelmint serve    # in {settings.root.name}", "schedules, and the Prefect UI"),
        )
    raise typer.Exit(status.OF_TRAINING[outcome.end])


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address of the Prefect server; default 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of the Prefect server; default 4200.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Answer Prometheus at http://HOST:PORT/metrics."),
    ] = None,
    workers: Annotated[
        bool,
        typer.Option(
            "--workers", help="Workers of a work pool run the deployments; only watch their runs."
        ),
    ] = False,
    install: Annotated[
        bool,
        typer.Option("--install", help="Write a systemd user unit for this, and start nothing."),
    ] = False,
) -> None:
    """Run the deployments of prefect.yaml on their schedules, with the Prefect UI.

    Starts a Prefect server if none answers, and restarts what is killed.
    """
    from flows import serve as serving

    root = Settings.from_environment().root
    if install:
        given = {"--host": host, "--port": port, "--metrics": metrics}
        words = [word for n, v in given.items() if v is not None for word in (n, str(v))]
        _install(root, [*words, *(["--workers"] if workers else [])])
        return
    raise typer.Exit(serving.serve(root, output.say, host, port, metrics, workers))


def _install(root: Path, arguments: list[str]) -> None:
    """Write the unit of `serve`, and say what to do next."""
    from flows.unit import install

    installed = install(root, arguments)
    output.say(f"{'Wrote' if installed.written else 'Unchanged:'} {installed.path}")
    if installed.missing:
        names = ", ".join(installed.missing)
        output.say(f"The unit does not see {names} of this shell: put them into")
        output.say(f"{installed.environment}, as VARIABLE=value, if it needs them.")
    output.say("Next:")
    output.say("  systemctl --user daemon-reload")
    output.say(f"  systemctl --user enable --now {installed.path.name}")
    output.say("  loginctl enable-linger    # it starts with the machine, without a login")
    output.say(f"  journalctl --user -f -u {installed.path.name}    # what it prints")


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
    add_help_option=False,
)
def prefect(context: typer.Context) -> None:
    """Run a Prefect command on the running server, as in `modelmint prefect flow-run ls`."""
    from flows.launch import prefect_command

    prefect_command(context.args)


@app.command()
def params(
    section: Annotated[
        str | None, typer.Argument(metavar="SECTION", help="prepare, train.optimizer, ...")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print every parameter with its meaning, bounds and default."""
    from cli import parameters

    found = parameters.chosen(section)
    if as_json:
        output.print_json(parameters.documents(found))
        return
    for line in parameters.lines(found):
        output.say(line)


@app.command()
def config(as_json: JsonOption = False) -> None:
    """List the settings with their environment variables: where data is stored."""
    rows = list_settings()
    output.table(
        ["variable", "value"],
        [[name, value or "not set"] for name, value in rows.items()],
    )
    if as_json:
        output.print_json(rows)


def _check(params: Path, overrides: list[str] | None, *, look: bool = False) -> str:
    """Check parameters, registry and code before Prefect is imported; returns the flow's path."""
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


def _document(outcome: "Outcome") -> dict[str, Any]:
    return {"status": status.OF_TRAINING[outcome.end], **outcome.as_dict()}


def main() -> None:
    """The console script: an error that the user can fix is one message and an exit status."""
    try:
        app()
    except (InputError, InvalidCandidate, InvalidQuery, InvalidReference, NotFound) as error:
        output.error(str(error))
        sys.exit(status.INPUT)
    except Refused as error:
        output.error(str(error))
        sys.exit(status.REFUSED)
    except (RegistryError, ServerDown) as error:
        output.error(str(error))
        sys.exit(status.ERROR)
