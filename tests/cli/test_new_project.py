"""`modelmint new`: projects for every form of data, with an installed modelmint."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sample_data
from PIL import Image
from projects import AUTHOR, ROOT, Project
from ruamel.yaml import YAML

from flows.deploy import refuse_shadowing
from flows.project import new_project
from flows.runs import claim_run
from flows.settings import Settings
from flows.versioning import pipeline
from tasks import fingerprint, params
from tasks.errors import InputError
from tasks.pipeline import STEPS
from tasks.proposal import propose

WORDS = ("film", "story", "cinema", "evening", "people", "actors", "music", "scenes")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Data of every form."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "houses.csv").write_text(sample_data.houses())
    rows = [
        (f"a {'good' if n % 2 else 'poor'} {WORDS[n % 8]} with {WORDS[n % 7]} {n}", n % 2)
        for n in range(80)
    ]
    pq.write_table(
        pa.table(
            {"review": [t for t, _ in rows], "label": ["good" if y else "bad" for _, y in rows]}
        ),
        folder / "reviews.parquet",
    )
    (folder / "notes.txt").write_text("".join(f"{text}\n" for text, _ in rows))
    random = np.random.default_rng(0)
    for label, brightness in (("dark", 60), ("light", 180)):
        (folder / "shapes" / label).mkdir(parents=True)
        for n in range(20):
            side = 12 if n % 4 else 16
            pixels = np.clip(random.normal(brightness, 25, (side, side)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "shapes" / label / f"{n}.png")
    np.savez(folder / "walks.npz", sequences=random.normal(size=(40, 9)), labels=np.arange(40) % 2)
    (folder / "broken.csv").write_text("id,x,y\n1,2\n")
    return folder


PROPOSED = {
    "houses.csv": (
        {
            "kind": "tabular",
            "path": "data/raw/houses.csv",
            "target": "price",
            "ignore": ["id"],
        },
        ("regression", "fill", "tabular"),
        {"r2": 0.3},
    ),
    "reviews.parquet": (
        {
            "kind": "text",
            "path": "data/raw/reviews.parquet",
            "column": "review",
            "target": "label",
            "tokenizer": {"vocabulary": 30_000},
            "max_length": 400,
        },
        ("classification", "refuse", "bag"),
        {"accuracy": 0.62},
    ),
    "notes.txt": (
        {"kind": "text", "path": "data/raw/notes.txt"},
        ("language_model", "refuse", "transformer_lm"),
        {"perplexity": 1000},
    ),
    "shapes": (
        {"kind": "image", "path": "data/raw/shapes", "size": [12, 12]},
        ("classification", "refuse", "cnn"),
        {"accuracy": 0.62},
    ),
    "walks.npz": (
        {"kind": "sequence", "path": "data/raw/walks.npz"},
        ("classification", "refuse", "conv1d"),
        {"accuracy": 0.62},
    ),
}


@pytest.mark.parametrize(("name", "expected"), PROPOSED.items(), ids=PROPOSED)
def test_new_proposes_parameters_and_lists_its_assumptions(name, expected, data, tmp_path):
    source, (task, missing, network), gates = expected
    place = tmp_path / source["path"]
    place.parent.mkdir(parents=True)
    (shutil.copytree if (data / name).is_dir() else shutil.copyfile)(data / name, place)
    found = propose(tmp_path, source["path"])
    given = found.params.prepare
    assert given.source.model_dump(exclude_defaults=True) == source
    assert (given.task, given.missing, found.params.train.architecture.name) == (
        task,
        missing,
        network,
    )
    assert found.params.evaluate.gates == gates
    assert found.params.registration.name == Path(name).stem
    said = "\n".join(found.assumptions)
    assert f"task: {task}" in said
    assert f"train.architecture: {network}" in said
    assert "NOT READABLE" not in said


def test_new_with_unreadable_data_creates_a_project_that_says_so(tmp_path):
    (tmp_path / "mixed.csv").write_text("x,y\n" + "".join(f"{n} kg,{n % 2}\n" for n in range(30)))
    (assumed,) = (a for a in propose(tmp_path, "mixed.csv").assumptions if "READABLE" in a)
    assert "column 'x'" in assumed


@pytest.mark.parametrize("name", ["a.pdf", "folder"])
def test_new_refuses_unknown_data_and_lists_the_known_formats(name, tmp_path):
    path = tmp_path / name
    path.touch() if path.suffix else path.mkdir()
    with pytest.raises(InputError, match=r"\.csv.*|tables, PNG or JPEG files"):
        propose(tmp_path, name)


@pytest.fixture(scope="module")
def installation(tmp_path_factory) -> Path:
    """A folder with the packages alone, as `pip install` makes it."""
    folder = tmp_path_factory.mktemp("site-packages")
    for package in ("cli", "flows", "modelmint", "registry", "tasks"):
        shutil.copytree(ROOT / package, folder / package)
    return folder


def make(installation: Path, folder: Path, *arguments: str) -> Project:
    environment = {"PYTHONPATH": str(installation), **AUTHOR}
    done = Project(folder.parent, environment).modelmint("new", str(folder), "--json", *arguments)
    return Project(folder, environment, json.loads(done.stdout))


@pytest.fixture(scope="module")
def houses(installation, data, tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("projects") / "houses"
    return make(installation, folder, "--from", str(data / "houses.csv"))


def test_new_project_is_a_committed_repository_without_code(houses):
    root = houses.root
    listed = houses.run("git", "ls-files").stdout.split()
    assert {"params.yaml", "dvc.yaml", "prefect.yaml", "code.json", "README.md"} <= set(listed)
    assert "data/raw/houses.csv.dvc" in listed
    assert not [name for name in listed if name.endswith(".py")]
    assert houses.run("git", "status", "--porcelain").stdout == ""
    assert (root / "dvc.yaml").read_bytes() == (ROOT / "dvc.yaml").read_bytes()
    assert fingerprint.code_changes(root, STEPS) == []
    assert houses.outcome["model"] == "houses"
    assert len((root / "README.md").read_text().splitlines()) <= 15
    assert not list(root.parent.glob(".houses*"))


def test_new_explains_every_parameter(houses):
    text = (houses.root / "params.yaml").read_text()
    found = params.load(houses.root / "params.yaml")
    assert params.read(houses.root / "params.yaml") == found.model_dump(mode="json")
    lines = text.splitlines()
    values = [n for n, line in enumerate(lines) if ":" in line and "#" not in line]
    unexplained = [lines[n] for n in values if not lines[n - 1].lstrip().startswith("#")]
    # What is above the section `tune.parameters` explains its lines, which are named by parameters.
    unexplained = [line for line in unexplained if not line.lstrip().startswith("train.")]
    assert unexplained == []


def test_dvc_repro_runs_the_installed_code_despite_a_tasks_folder(houses, tmp_path):
    shutil.copytree(houses.root, tmp_path / "houses", symlinks=True)
    project = Project(tmp_path / "houses", houses.environment)
    (project.root / "tasks").mkdir()
    (project.root / "tasks/__init__.py").write_text("raise SystemExit('not this one')\n")
    project.run("dvc", "repro", "-q", "prepare")
    report = json.loads((project.root / "data/prepared/report.json").read_bytes())
    assert report["rows"]
    with pytest.raises(InputError, match="instead of modelmint's package `tasks`"):
        refuse_shadowing(project.root)
    refuse_shadowing(houses.root)
    refuse_shadowing(ROOT)


def test_framework_update_makes_changed_stages_stale_with_a_reason(houses, installation, tmp_path):
    shutil.copytree(houses.root, tmp_path / "houses", symlinks=True)
    shutil.copytree(installation, tmp_path / "new")
    project = Project(tmp_path / "houses", houses.environment)
    project.run("dvc", "repro", "-q", "prepare")
    project.environment = {"PYTHONPATH": str(tmp_path / "new")}
    for name in ("tasks/prepare.py", "tasks/metrics.py"):
        with (tmp_path / "new" / name).open("a") as file:
            file.write("\n# A comment.\n")
    assert "no stage becomes stale" in project.modelmint("code", "--check").stderr
    assert "up to date" in project.run("dvc", "status", "prepare").stdout
    with (tmp_path / "new/tasks/train.py").open("a") as file:
        file.write("\nRELEASE = 2\n")
    said = project.modelmint("code").stderr.splitlines()
    assert said == [
        "train becomes stale: tasks/train.py",
        "export becomes stale: tasks/train.py",  # it trains with other seeds (`evaluate.repeat`)
        "updated code.json; commit it",
    ]
    assert "up to date" in project.run("dvc", "status", "prepare").stdout


def test_a_project_is_found_from_any_of_its_folders(houses, monkeypatch):
    for below in ("", "data", "data/raw"):
        monkeypatch.chdir(houses.root / below)
        assert Settings.from_environment().root == houses.root


@pytest.mark.whole
def test_dvc_file_of_the_digits_is_not_a_project(tmp_path, monkeypatch):
    made = new_project(tmp_path / "digits", None)
    monkeypatch.chdir(made.root / "data/raw")
    assert Settings.from_environment().root == made.root
    assert params.read(made.root / "params.yaml") == params.read(ROOT / "params.yaml")
    written = (made.root / "prefect.yaml").read_bytes()
    assert written == (ROOT / "prefect.yaml").read_bytes()
    assert (made.root / "data/raw/dvc.yaml").read_bytes() == (
        ROOT / "data/raw/dvc.yaml"
    ).read_bytes()
    assert list(pipeline(made.root)) == list(STEPS)


def test_run_with_other_parameters_gets_a_worktree(houses, tmp_path):
    shutil.copytree(houses.root, tmp_path / "houses", symlinks=True)
    root = tmp_path / "houses"
    settings = Settings(root, "", "", root / "cache", root / "runs")
    with claim_run(settings, params.load(root / "params.yaml", ["train.epochs=3"])) as run:
        assert (run.workspace.root / "code.json").exists()
        assert not (run.workspace.root / "tasks").exists()


@pytest.mark.parametrize("there", ["file", "folder with a file"])
def test_new_refuses_a_folder_that_is_not_empty(there, tmp_path):
    path = tmp_path / "project"
    if there == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "mine").write_text("mine")
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        new_project(path, None)
    assert (path if path.is_file() else path / "mine").read_text() == "mine"


def test_failed_new_leaves_nothing(data, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "new"):
        with pytest.raises(InputError, match=r"broken\.csv"):
            new_project(tmp_path / folder, data / "broken.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]
    assert list((tmp_path / "empty").iterdir()) == []
    with pytest.raises(InputError, match="does not exist"):
        new_project(tmp_path / "new", tmp_path / "nothing")
    with pytest.raises(InputError, match="is inside the data"):
        new_project(data / "shapes/project", data / "shapes")


@pytest.mark.whole
def test_new_without_a_git_author_commits_nothing_and_says_so(installation, tmp_path, monkeypatch):
    for name in (*AUTHOR, "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    made = new_project(tmp_path / "project", None)
    assert "user.useConfigOnly" in made.uncommitted or "email" in made.uncommitted
    staged = subprocess.run(
        ["git", "diff", "--cached", "--name-only"], cwd=made.root, capture_output=True, text=True
    )
    assert "params.yaml" in staged.stdout


@pytest.mark.whole
@pytest.mark.timeout(900)
def test_readme_commands_of_a_new_project_train_and_predict(houses, prefect_server):
    houses.environment["PREFECT_API_URL"] = prefect_server
    readme = (houses.root / "README.md").read_text()
    commands = [line.partition("#")[0].split() for line in readme.splitlines()]
    commands = [words for words in commands if words[:1] == ["modelmint"]]
    assert [words[1] for words in commands] == ["train", "train", "predict", "models", "serve"]
    _, train, predict, history, _ = commands
    outcome = json.loads(houses.run(*train, "--json").stdout)
    assert outcome["version"] == "houses:1"
    assert outcome["folder"] == str(houses.root)
    houses.run(*predict)
    predictions = pq.read_table(houses.root / "predictions/test/predictions")
    assert predictions.num_rows == 24
    assert "houses:1" in houses.run(*history).stderr
    again = json.loads(houses.run(*train, "--json").stdout)
    assert {step["how"] for step in again["steps"] if step["name"] in STEPS} == {"Fresh"}


def test_new_refuses_data_that_contains_the_project(tmp_path, monkeypatch):
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    for given in (Path("."), Path("sub/.."), tmp_path / "link"):
        with pytest.raises(InputError, match="is inside the data"):
            new_project(Path("new"), given)
    assert not Path("new").exists()


@pytest.mark.parametrize("name", [".dvcignore", "dvc.yaml", "a.csv.dvc"])
def test_new_refuses_data_with_names_special_to_dvc(name, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text("")
    with pytest.raises(InputError, match=f"{name} is a file of DVC"):
        new_project(tmp_path / "new", tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_new_refuses_a_link_cycle_in_the_data(tmp_path):
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "data/a/up").symlink_to("..")
    with pytest.raises(InputError, match="leads back into the data"):
        new_project(tmp_path / "new", tmp_path / "data")


def test_new_refuses_a_path_with_braces(tmp_path):
    with pytest.raises(InputError, match="DVC cannot work in a path"):
        new_project(tmp_path / "a{b}", None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.nulls(3), "the type null and 0 values"),
        (pa.array([1, 2, 3], pa.date32()), "the type date32"),
        (pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())), "the type map"),
    ],
)
def test_new_names_a_target_that_cannot_be_predicted(values, expected, tmp_path):
    pq.write_table(pa.table({"x": [1.5, 2.5, 3.5], "target": values}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=expected):
        propose(tmp_path, "t.parquet")


def test_new_proposes_the_words_for_missing_values_that_stand_among_numbers(tmp_path):
    lines = []
    for n in range(40):
        size, kind = "NA" if n % 5 == 0 else n, "?" if n % 7 == 0 else "ab"[n % 2]
        day, label = "N/A" if n % 9 == 0 else "2024-01-02", "NA" if n % 8 == 0 else n % 3
        lines.append(f"{size},{kind},{day},{label}\n")
    (tmp_path / "t.csv").write_text("size,kind,day,label\n" + "".join(lines))
    found = propose(tmp_path, "t.csv")
    given = found.params.prepare
    assert given.source.csv.na_values == ["NA", "N/A"]  # not the `?` of a category
    assert (given.missing, given.task) == ("fill", "classification")
    assert "csv.na_values: NA, N/A, which stands among numbers or dates" in found.assumptions
    assert not [text for text in found.assumptions if "READABLE" in text]


def test_messages_of_new_name_no_folder_that_is_gone(data, tmp_path):
    (tmp_path / "mixed.csv").write_text("x,y\n" + "".join(f"{n} kg,{n % 2}\n" for n in range(30)))
    made = new_project(tmp_path / "mixed", tmp_path / "mixed.csv")
    (assumed,) = (text for text in made.assumptions if "NOT READABLE YET" in text)
    assert "params.yaml: data/raw/mixed.csv, row 1: column 'x'" in assumed
    broken = data / "broken.csv"
    with pytest.raises(InputError, match=f"^{broken}.*row"):
        new_project(tmp_path / "new", broken)


def test_new_ignores_empty_and_unsupported_columns(tmp_path):
    maps = pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64()))
    table = pa.table({"none": pa.nulls(3), "maps": maps, "x": [1.5, 2, 3], "y": ["a", "b", "a"]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = propose(tmp_path, "t.parquet")
    assert found.params.prepare.source.ignore == ["none", "maps"]


@pytest.mark.parametrize(
    ("spelled", "ignored"),
    [("07-{:05}", True), ("{}A{}", True), ("{} kg", False), ("{:,}.50", False), ("{}%", False)],
)
def test_new_ignores_codes_that_begin_with_a_digit_and_keeps_formatted_numbers(
    spelled, ignored, tmp_path
):
    text = [spelled.format(n, n) for n in range(1_000, 1_100)]
    table = pa.table({"code": text, "x": range(100), "y": ["a", "b"] * 50})
    pq.write_table(table, tmp_path / "t.parquet")
    assert propose(tmp_path, "t.parquet").params.prepare.source.ignore == ["code"] * ignored


def test_new_quotes_names_that_yaml_would_read_as_numbers():
    text = (ROOT / "flows/templates/prefect.yaml").read_text().replace("$name", "2024")
    document = YAML(typ="safe").load(text.replace("$$", "$"))
    assert document["name"] == "2024"
