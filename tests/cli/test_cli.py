"""The command line: errors for invalid input, and no heavy imports for light commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from projects import Project
from typer.testing import CliRunner

from cli.main import app
from tasks import inputs

NOT_TO_PREDICT = (
    "torch",
    "prefect",
    "pandas",
    "cli.models.look",
    "registry.display.documents",
    "registry.integrity",
    "flows.server",
    "urllib.request",
)
HEAVY = ("torch", "prefect", "onnxruntime", "sklearn", "lightning_fabric", "dvc")


@pytest.mark.parametrize("arguments", [["--help"], ["models", "list"], ["models", "--help"]])
def test_read_commands_import_neither_torch_nor_prefect(trained: Project, arguments):
    code = (
        f"import sys; from cli.main import app; sys.argv = ['modelmint', *{arguments}]\n"
        "try: app()\nexcept SystemExit: pass\n"
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    done = trained.run(sys.executable, "-c", code)
    assert done.stderr.splitlines()[-1] == "[]"


def test_predict_imports_nothing_that_only_other_commands_need(trained: Project, tmp_path):
    code = (
        "import sys; from cli.start import main\n"
        f"sys.argv = ['modelmint', 'predict', 'digits', 'data/prepared/test.arrow', '--output', "
        f"{str(tmp_path / 'out')!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print([m for m in {NOT_TO_PREDICT} if m in sys.modules], file=sys.stderr)"
    )
    done = trained.run(sys.executable, "-c", code)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.whole
def test_predict_help_names_every_file_format_without_importing_readers():
    code = (
        "import sys; from cli.main import app; sys.argv = ['modelmint', 'predict', '--help']\n"
        "try: app()\nexcept SystemExit: pass\n"
        "print([m for m in ('pyarrow', 'numpy') if m in sys.modules], file=sys.stderr)"
    )
    wide = {**os.environ, "COLUMNS": "300"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=wide)
    assert f"{', '.join(inputs.SUFFIXES)}, or a folder; or " in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("section", [[], ["train.optimizer"], ["evaluate"]])
def test_params_prints_text_or_json(section):
    for_people = CliRunner().invoke(app, ["params", *section, "--json"])
    assert for_people.exit_code == 0
    found = json.loads(for_people.stdout)
    assert found[0]["path"] == (section or ["prepare"])[0]
    assert {"path", "only", "type", "required", "default", "meaning"} == found[0].keys()


BAD = {
    "unknown parameter": (["params", "train.epoch"], "did you mean train.epochs"),
    "unknown key": (["train", "-S", "train.epoch=3"], "did you mean 'epochs'"),
    "unknown architecture": (["train", "-S", "train.architecture=cnm"], "did you mean 'cnn'"),
    "wrong type": (["train", "-S", "train.epochs=many"], "valid integer"),
    "no assignment": (["train", "-S", "train.epochs"], "section.key=value"),
    "missing params": (["train", "--params", "nope.yaml"], "nope.yaml: No such file"),
    "unknown model": (["predict", "digit", "IN", "--output", "OUT"], "Did you mean 'digits'"),
    "unknown alias": (["predict", "digits@champ", "IN", "--output", "OUT"], "'champion'"),
    "unknown version": (["predict", "digits:9", "IN", "--output", "OUT"], "has no version 9"),
    "malformed reference": (["predict", "Digits!", "IN", "--output", "OUT"], "NAME@ALIAS"),
    "missing input": (["predict", "digits", "nope.parquet", "--output", "OUT"], "is missing"),
    "unknown form": (["predict", "digits", "params.yaml", "--output", "OUT"], ".parquet, .arrow"),
    "unknown model shown": (["models", "show", "digit"], "Did you mean 'digits'"),
    "no output": (["predict", "digits", "IN"], "--output"),
    "cuda without a device": (
        ["predict", "digits", "IN", "--output", "OUT", "--device", "cuda"],
        "CUDA was asked for",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_input_is_one_message_and_status_2(trained: Project, tmp_path, case):
    arguments, expected = BAD[case]
    places = {"IN": "data/prepared/test.arrow", "OUT": str(tmp_path / "out")}
    done = trained.modelmint(*[places.get(a, a) for a in arguments], status=2)
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.rglob("*.par*"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODELMINT_DATABASE_URL", "sqlite:////proc/none/registry.db"),
        ("MODELMINT_DATABASE_URL", "postgresql+psycopg://ada:secret@127.0.0.1:1/registry"),
        ("MODELMINT_DATABASE_URL", "no url at all"),
        ("MODELMINT_ARTIFACTS", "gs://bucket/prefix"),
    ],
)
@pytest.mark.parametrize(
    "command", [pytest.param(["train"], marks=pytest.mark.release), ["models", "list"]]
)
def test_unreachable_registry_is_one_message_and_status_1(
    trained: Project, variable, value, command
):
    done = Project(trained.root, {**trained.environment, variable: value}).modelmint(
        *command, status=1
    )
    assert variable in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_unreachable_bucket_stops_before_training(trained: Project):
    nobody = {
        "MODELMINT_ARTIFACTS": "s3://bucket/prefix",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "ada",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_MAX_ATTEMPTS": "1",
    }
    project = Project(trained.root, {**trained.environment, **nobody})
    done = project.modelmint("train", "-S", "train.seed=99", status=1)
    assert "MODELMINT_ARTIFACTS" in done.stderr
    assert "Task run" not in done.stderr
    assert "secret" not in done.stderr


def test_command_outside_a_project_says_where_to_go(tmp_path):
    done = Project(tmp_path).modelmint("models", "list", status=2)
    assert "not in a modelmint project" in done.stderr


def test_unreachable_prefect_server_is_one_message(trained: Project):
    project = Project(trained.root, {"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    done = project.modelmint("train", status=1)
    assert "PREFECT_API_URL is http://127.0.0.1:9/api" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.release  # flows/test_training_flow.py: a signal during a training
def test_missing_prefect_server_gives_advice_and_starts_a_temporary_one(trained: Project):
    done = Project(trained.root).modelmint("train")
    assert done.stderr.count("modelmint serve") == 1
    assert "'prepare' - Finished in state Fresh" in done.stderr


def test_running_prefect_server_gives_no_advice(trained: Project):
    assert "temporary" not in trained.modelmint("train").stderr


def test_config_lists_every_variable_and_hides_the_password(trained: Project):
    given = {
        "MODELMINT_DATABASE_URL": "postgresql://ada:secret@db/x",
        "MODELMINT_NOTIFY_SMTP": "smtp://ada:secret@mail.example.com:587",
        "MODELMINT_NOTIFY_TO": "ops@example.com",
        "MODELMINT_NOTIFY_SLACK": "https://hooks.example.com/services/secret",
    }
    shown = json.loads(Project(trained.root, given).modelmint("config", "--json").stdout)
    assert shown["MODELMINT_DATABASE_URL"] == "postgresql://ada:***@db/x"
    assert "secret" not in json.dumps(shown)
    names = ["DATABASE_URL", "ARTIFACTS", "CACHE", "RUNS", "BACKUP", "UI_URL"]
    channels = ("SMTP", "TO", "FROM", "WEBHOOK", "SLACK", "COMMAND", "EVENTS")
    names += [f"NOTIFY_{channel}" for channel in channels]
    assert set(shown) == {f"MODELMINT_{name}" for name in names}


def test_every_command_has_a_help_text():
    import typer

    from cli.main import app

    def commands(group, path=()):
        for name, command in getattr(group, "commands", {}).items():
            yield (*path, name), command
            yield from commands(command, (*path, name))

    found = dict(commands(typer.main.get_command(app)))
    assert ("models", "gc") in found
    for path, command in found.items():
        assert command.help, f"{' '.join(path)} has no help"


def test_promote_command_moves_the_alias_and_adds_an_event(trained: Project):
    trained.modelmint("models", "promote", "digits:1", "--alias", "canary", "--reason", "to try")
    assert "canary -> digits:1" in trained.modelmint("models", "list").stderr
    event = json.loads(trained.modelmint("models", "history", "digits", "--json").stdout)[0]
    assert (event["kind"], event["alias"], event["reason"]) == ("promoted", "canary", "to try")


@pytest.mark.whole
def test_the_console_script_is_installed():
    script = Path(sys.executable).with_name("modelmint")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "predict" in done.stdout


@pytest.mark.whole
def test_ui_without_its_extra_says_how_to_install_it(tmp_path):
    code = (
        "import sys; sys.modules['jinja2'] = None; from cli.main import main\n"
        "sys.argv = ['modelmint', 'models', 'ui']; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "MODELMINT_DATABASE_URL": f"sqlite:///{tmp_path}/registry.db"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "pip install 'modelmint[ui]'" in done.stderr
    assert "Traceback" not in done.stderr
