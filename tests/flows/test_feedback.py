"""Labels that arrive after the predictions."""

import json
import shutil
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from drift_helpers import Trained, register
from registry_helpers import LINEAGE, in_processes

from flows import feedback
from flows.job import run_job
from registry import NotFound, Registry
from registry.integrity import verify
from tasks import inputs
from tasks.bundle.signature import Signature
from tasks.columns import NumberColumn
from tasks.errors import InputError
from tasks.feedback import read_labels
from tasks.files.reading import PLAIN
from tasks.predict import How
from tasks.serving.options import Options


def rows(seed, number=400, prefix="row"):
    values = np.random.default_rng(seed).normal(size=number)
    labels = np.where(
        values + np.random.default_rng(seed + 1).normal(0, 0.3, number) > 0, "yes", "no"
    )
    keys = [f"{prefix}-{seed}-{place}" for place in range(number)]
    return pa.table({"key": keys, "a": values, "y": labels})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    table = rows(0, 2_000).drop(["key"])
    made = Trained(place, {name: table[name] for name in table.column_names}).bundle(place / "made")
    return {path.name: path for path in made.iterdir()}


class Place:
    """A registry with `tiny:1`, and where its jobs write."""

    def __init__(self, registry, bundle, folder):
        self.registry, self.bundle, self.folder = registry, bundle, folder

    def predict(self, name, table, reference="tiny:1", **options):
        path = self.folder / f"{name}.parquet"
        pq.write_table(table.drop(["y"]), path)
        found = inputs.find([path], Signature.read(self.bundle["signature.json"]))
        return run_job(
            self.registry,
            self.registry.resolve(reference),
            found,
            self.folder / "out" / name,
            options=Options(**options),
            how=How("cpu"),
        )

    def predicted(self, name):
        return pq.read_table(self.folder / "out" / name / "predictions")

    def labels(self, table, name="labels.csv"):
        path = self.folder / name
        pa.csv.write_csv(table.select(["key", "y"]).rename_columns(["key", "label"]), path)
        return path

    def give(self, path, **given):
        given = {"key": "key", "label": "label", "job": None, "actor": "eve", "say": print, **given}
        return feedback.give(self.registry, "tiny", path, **given)

    def kept(self):
        return sorted((self.folder / "out").rglob("labels/*/*"))


@pytest.fixture
def place(bundle, tmp_path):
    with Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "artifacts") as made:
        made.create()
        register(made, bundle, tmp_path / "candidate")
        yield Place(made, bundle, tmp_path)


def accuracy(place, name, table):
    predicted = place.predicted(name)["prediction"].to_pylist()
    return np.mean([a == b for a, b in zip(predicted, table["y"].to_pylist(), strict=True)])


def test_labels_of_half_the_rows_measure_the_version_beside_the_estimate(place):
    table = rows(7)
    place.predict("one", table)
    found = place.give(place.labels(table.slice(0, 200)))
    assert (found.given, found.used, found.jobs, found.known) == (200, 200, 1, 0)
    (measured,) = found.measured
    first = place.predicted("one").slice(0, 200)["prediction"].to_pylist()
    right = np.mean([a == b for a, b in zip(first, table["y"].to_pylist(), strict=False)])
    assert measured.metrics["accuracy"] == pytest.approx(right)
    assert (measured.version, measured.rows, measured.labels) == ("tiny:1", 400, 200)
    estimate = json.loads((place.folder / "out/one/drift.json").read_bytes())["accuracy"]
    assert measured.estimate == pytest.approx({k: estimate[k] for k in ("accuracy", "low", "high")})
    (event,) = [e for e in place.registry.history("tiny") if e.kind == "noted"]
    assert f"accuracy {right:.4f}" in event.reason
    assert "200 labels" in event.reason
    assert event.actor == "eve"
    assert verify(place.registry).problems == []


def test_labels_come_in_several_files_and_the_newest_of_a_row_counts(place):
    table = rows(7)
    place.predict("one", table)
    place.give(place.labels(table.slice(0, 300), "first.csv"))
    found = place.give(place.labels(table.slice(200, 200), "second.csv"))
    assert found.measured[0].labels == 400
    assert found.measured[0].metrics["accuracy"] == pytest.approx(accuracy(place, "one", table))
    other = table.set_column(2, "y", pa.array(["no"] * 400))
    found = place.give(place.labels(other, "corrected.csv"))
    predicted = place.predicted("one")["prediction"].to_pylist()
    assert found.measured[0].labels == 400
    assert found.measured[0].metrics["accuracy"] == pytest.approx(predicted.count("no") / 400)


def test_the_same_file_again_changes_nothing(place):
    table = rows(7)
    place.predict("one", table)
    first = place.give(place.labels(table))
    kept, events = place.kept(), len(place.registry.history("tiny"))
    again = place.give(place.labels(table, "copy.csv"))
    assert (again.used, again.known) == (400, 1)
    assert again.measured == first.measured
    assert (place.kept(), len(place.registry.history("tiny"))) == (kept, events)


def test_jobs_of_two_versions_are_measured_apart(place, bundle):
    one, two = rows(7), rows(8)
    place.predict("one", one)
    register(
        place.registry, bundle, place.folder / "again", lineage=replace(LINEAGE, dataset="b" * 32)
    )
    place.predict("two", two, "tiny:2")
    found = place.give(place.labels(pa.concat_tables([one, two])))
    by_version = {m.version: m.metrics["accuracy"] for m in found.measured}
    assert by_version == pytest.approx(
        {"tiny:1": accuracy(place, "one", one), "tiny:2": accuracy(place, "two", two)}
    )
    assert feedback.measured(place.registry, "tiny") == found.measured


def test_labels_go_to_the_jobs_of_the_target_that_the_newest_job_predicts(place, bundle):
    table = rows(7)
    place.predict("one", table)
    source = {"kind": "tabular", "path": "data", "target": "sold"}
    given = {"params": {"prepare": {"source": source}}}
    given["lineage"] = replace(LINEAGE, dataset="b" * 32)
    register(place.registry, bundle, place.folder / "again", **given)
    place.predict("two", table, "tiny:2")
    found = place.give(place.labels(table))
    assert [(m.version, m.labels) for m in found.measured] == [("tiny:2", 400)]
    (notice,) = found.notices
    assert "do not predict sold (classification): the jobs of tiny:1, which predicts" in notice
    job = next(job for job in place.registry.jobs("tiny") if job.version == 1)
    named = place.give(place.labels(table), job=job.id)
    assert {m.version for m in named.measured} == {"tiny:1", "tiny:2"}


def test_row_numbers_need_the_name_of_their_job(place):
    table = rows(7)
    without = table.drop(["key"])
    place.predict("one", without)
    job = place.predict("two", without.slice(0, 300))
    numbered = table.set_column(0, "key", pa.array(range(400)))
    labels = place.labels(numbered)
    with pytest.raises(InputError, match=r"row numbers.*Name the job with --job, such as"):
        place.give(labels)
    assert place.kept() == []
    found = place.give(labels, job=job.job)
    assert (found.used, found.measured[0].labels) == (300, 300)
    place.predict("three", rows(8))
    with pytest.raises(InputError, match=r"none of the 400 labels.*2 jobs left out"):
        place.give(labels)


def test_a_key_of_two_inputs_is_refused_and_of_one_input_predicted_twice_is_not(place):
    table = rows(7)
    place.predict("one", table)
    place.predict("twice", table, probabilities=True)
    labels = place.labels(table)
    assert place.give(labels).jobs == 2
    other = rows(8).set_column(0, "key", table["key"])
    job = place.predict("other", other)
    second = place.labels(table.slice(0, 399), "second.csv")
    with pytest.raises(InputError, match="399 keys are in jobs with different input"):
        place.give(second)
    assert place.give(second, job=job.job).jobs == 1


def test_a_key_that_several_rows_of_a_job_have_is_left_out(place):
    table = rows(7)
    keys = table["key"].to_pylist()
    keys[1] = keys[0]
    table = table.set_column(0, "key", pa.array(keys))
    place.predict("one", table)
    assert place.give(place.labels(table.slice(1))).used == 398


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("key,label\nrow-7-0,maybe\n", "row 1: 'label' is 'maybe', which is not a class"),
        ("key,label\nrow-7-0,\n", "row 1"),
        ("key,label\n,yes\n", "row 1: no key"),
        ("key,label\nrow-7-0,yes\nrow-7-0,no\n", "two different labels for the key row-7-0"),
        ("key,lable\nrow-7-0,yes\n", "no column 'label' .did you mean 'lable'"),
        ("id,label\nrow-7-0,yes\n", "no column 'key'"),
        ("key,label\n", "has no rows"),
        ("key,label\nelse,yes\n", "none of the 1 labels is of a predicted row.*'else'"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_and_nothing_is_kept(place, content, says):
    place.predict("one", rows(7))
    path = place.folder / "labels.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        place.give(path)
    assert place.kept() == []


def test_feedback_without_a_file_a_model_or_a_job_says_so(place):
    with pytest.raises(InputError, match="no job of tiny has finished"):
        place.give(place.folder / "labels.csv")
    place.predict("one", rows(7))
    with pytest.raises(InputError, match="is not a file"):
        place.give(place.folder / "none.csv")
    with pytest.raises(NotFound):
        feedback.measured(place.registry, "tyni")


def test_predictions_that_somebody_changed_are_not_measured(place):
    table = rows(7)
    place.predict("one", table)
    part = place.folder / "out/one/predictions/part-00000.parquet"
    pq.write_table(pq.read_table(part).slice(0, 10), part)
    with pytest.raises(InputError, match="is not what its manifest describes"):
        place.give(place.labels(table))


def test_predictions_that_are_gone_are_named_and_left_out(place):
    one, two = rows(7), rows(8)
    place.predict("one", one)
    place.predict("two", two)
    (place.folder / "out/one/manifest.json").unlink()
    found = place.give(place.labels(two))
    assert found.used == 400
    assert any("out/one" in notice for notice in found.notices)


def test_labels_of_an_earlier_job_are_not_those_of_a_later_one_in_its_folder(place):
    table = rows(7)
    place.predict("one", table)
    place.give(place.labels(table))
    shutil.rmtree(place.folder / "out/one/predictions")
    (place.folder / "out/one/manifest.json").unlink()
    later = rows(8).set_column(0, "key", table["key"])  # the same customers on another day
    place.predict("one", later)
    assert feedback.measured(place.registry, "tiny") == []
    found = place.give(place.labels(later.slice(0, 50)))
    assert (found.measured[0].labels, found.measured[0].rows) == (50, 400)


def test_predictions_that_are_names_of_folders_are_named_and_left_out(place):
    one, two = rows(7), rows(8)
    place.predict("one", one, partition_by=("prediction",))
    place.predict("two", two)
    found = place.give(place.labels(pa.concat_tables([one, two])))
    assert (found.used, found.jobs) == (400, 1)
    assert any("--partition-by" in notice and "out/one" in notice for notice in found.notices)


def test_an_earlier_file_again_does_not_undo_later_corrections(place):
    table = rows(7)
    place.predict("one", table)
    first = place.labels(table, "first.csv")
    place.give(first)
    corrected = place.give(
        place.labels(table.set_column(2, "y", pa.array(["no"] * 400)), "two.csv")
    )
    again = place.give(first)
    assert (again.known, again.measured) == (1, corrected.measured)
    assert any("corrections that came later stay" in notice for notice in again.notices)
    assert len(place.kept()) == 2


def test_rows_that_a_version_predicted_twice_are_measured_once(place):
    table = rows(7)
    place.predict("one", table)
    place.predict("twice", table, probabilities=True)
    found = place.give(place.labels(table))
    assert found.jobs == 2
    assert (found.measured[0].labels, found.measured[0].jobs) == (400, 1)


NUMBERED = ("0", "1")  # classes that files spell in many ways


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "labels.parquet", "labels.arrow"])
@pytest.mark.parametrize(
    "spelled",
    [
        lambda labels: labels,
        lambda labels: [f"{label}.0" for label in labels],
        lambda labels: [f" {label} " for label in labels],
        lambda labels: [int(label) for label in labels],
        lambda labels: [float(label) for label in labels],
        lambda labels: [Decimal(label).quantize(Decimal("0.1")) for label in labels],
        lambda labels: pa.array(labels).dictionary_encode(),
    ],
)
def test_labels_are_the_same_in_every_spelling_and_format(name, spelled, tmp_path):
    labels = [NUMBERED[place % 2] for place in range(20)]
    given = spelled(labels)
    column = given if isinstance(given, pa.Array) else pa.array(given)
    table = pa.table({"key": [f"k{place}" for place in range(20)], "label": column})
    path = tmp_path / name
    if name.endswith(".csv"):
        pa.csv.write_csv(table.set_column(1, "label", pa.array(map(str, column.to_pylist()))), path)
    elif name.endswith(".jsonl"):
        lines = (json.dumps(row, default=float) for row in table.to_pylist())
        path.write_text("\n".join(lines) + "\n")
    elif name.endswith(".parquet"):
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    signature = Signature.of(
        "binary", (NumberColumn(name="a", low=0.0, high=1.0),), NUMBERED, PLAIN
    )
    found = read_labels(path, signature, "key", "label").rows
    by_key = dict(zip(found["key"].to_pylist(), found["label"].to_pylist(), strict=True))
    assert by_key == {f"k{place}": label for place, label in enumerate(labels)}


KEYS = ["900", "900.0", "0900", " 900", "TRUE", "true", "NA", "9,5", "é", "2020-01-01"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_keys_are_compared_as_the_text_that_they_are(place, suffix):
    table = rows(7, len(KEYS)).set_column(0, "key", pa.array(KEYS))
    path = place.folder / f"in.{suffix}"
    write = pa.csv.write_csv if suffix == "csv" else pq.write_table
    write(table.drop(["y"]), path)
    found = inputs.find([path], Signature.read(place.bundle["signature.json"]))
    resolved = place.registry.resolve("tiny:1")
    run_job(place.registry, resolved, found, place.folder / "out/keys", how=How("cpu"))
    labels = place.labels(table.slice(1))
    assert place.give(labels).used == len(KEYS) - 1
    measured = feedback.measured(place.registry, "tiny")[0]
    predicted = pq.read_table(place.folder / "out/keys/predictions")
    assert predicted["key"].to_pylist() == KEYS
    right = np.array(predicted["prediction"].to_pylist()) == np.array(table["y"].to_pylist())
    assert measured.metrics["accuracy"] == pytest.approx(right[1:].mean())


def test_ids_with_leading_zeros_are_no_row_numbers(place):
    table = rows(7).set_column(0, "key", pa.array([f"{place:06}" for place in range(400)]))
    place.predict("one", table)
    assert place.give(place.labels(table)).used == 400


def test_a_key_that_is_repeated_in_one_job_and_once_in_another_is_refused(place):
    one, two = rows(7), rows(8)
    keys = one["key"].to_pylist()
    keys[1] = keys[0]
    place.predict("one", one.set_column(0, "key", pa.array(keys)))
    others = two["key"].to_pylist()
    others[5] = keys[0]
    two = two.set_column(0, "key", pa.array(others))
    place.predict("two", two)
    with pytest.raises(InputError, match="1 keys are in jobs with different input"):
        place.give(place.labels(two))
    assert place.kept() == []


def test_one_column_cannot_be_both_key_and_label(place):
    table = rows(7)
    place.predict("one", table)
    with pytest.raises(InputError, match="both name 'key'"):
        place.give(place.labels(table), label="key")


def test_a_job_that_failed_is_named(place):
    table = rows(7)
    place.predict("one", table)
    broken = table.set_column(1, "a", pa.array([None] * 400, pa.float64()))
    with pytest.raises(InputError):
        place.predict("broken", broken)
    (failed,) = [job for job in place.registry.jobs("tiny") if job.state == "failed"]
    with pytest.raises(InputError, match=f"job {failed.id} has not finished"):
        place.give(place.labels(table), job=failed.id)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_predictions_in_text_formats_are_measured(place, form):
    table = rows(7)
    place.predict("one", table, form=form)
    found = place.give(place.labels(table))
    assert found.measured[0].labels == 400
    assert 0.8 < found.measured[0].metrics["accuracy"] < 1


def give_alone(index, places):
    with Registry(*places[index][:2]) as registry:
        return feedback.give(
            registry,
            "tiny",
            places[index][2],
            key="key",
            label="label",
            job=None,
            actor="eve",
            say=print,
        ).known


def test_two_commands_at_once_keep_the_labels_once(place):
    table = rows(7)
    place.predict("one", table)
    where = (f"sqlite:///{place.folder}/registry.db", place.folder / "artifacts")
    labels = place.labels(table)
    assert sorted(in_processes(2, give_alone, [(*where, labels)] * 2)) == [0, 1]
    assert len(place.kept()) == 1
    assert len([e for e in place.registry.history("tiny") if e.kind == "noted"]) == 1


def test_feedback_of_the_digits_measures_the_accuracy_of_their_registration(trained, tmp_path):
    test = str(trained.root / "data/prepared/test.arrow")
    trained.modelmint("predict", "digits", test, "--output", str(tmp_path / "out"))
    with pa.memory_map(test) as source:
        table = pa.ipc.open_file(source).read_all()
    labels = pa.table({"key": table["key"], "digit": table["target"].cast(pa.string())})
    pa.csv.write_csv(labels, tmp_path / "labels.csv")
    shown = trained.modelmint(
        "feedback", "digits", str(tmp_path / "labels.csv"), "--label", "digit"
    )
    assert "360 of 360 labels are of predicted rows, in" in shown.stderr  # other tests predict, too
    found = json.loads(trained.modelmint("feedback", "digits", "--json").stdout)
    version = json.loads(trained.modelmint("models", "show", "digits", "--json").stdout)
    (measured,) = found["measured"]
    assert measured["metrics"]["accuracy"] == pytest.approx(version["metrics"]["accuracy"])
    estimate = measured["estimate"]
    assert estimate["low"] <= measured["metrics"]["accuracy"] <= estimate["high"]
    refused = trained.modelmint("feedback", "digits", str(tmp_path / "labels.csv"), status=2)
    assert "no column" in refused.stderr
    assert "Traceback" not in refused.stderr
