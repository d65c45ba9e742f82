"""The rows that the loop trains on, and the comparison of the champion with the version before."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from loops import NAME, edit_raw, table

from flows.loop.facts import jobs_below, labelled, predicted
from flows.loop.measuring import compare
from flows.loop.records import proposed_rollback
from registry.integrity import verify
from tasks import added_rows, sources
from tasks.added_rows import check
from tasks.config import Prepare
from tasks.errors import InputError


def as_table(rows):
    """By row: a and y, rounded as they are read again."""
    return sorted(zip(rows["a"].to_pylist(), rows["y"].to_pylist(), strict=True))


def test_labelled_rows_become_raw_data_that_the_source_reads(tiny):
    one, two = table(1), table(2)
    tiny.predict("monday", one)
    tiny.predict("tuesday", two)
    tiny.label(pa.concat_tables([one.slice(0, 50), two.slice(0, 30)]))
    added, overrides, _ = tiny.loop().add_rows()
    assert (added.rows, added.refused, overrides) == (80, {}, [])
    path = tiny.raw / "modelmint-labelled.parquet"
    found = pq.read_table(path)
    assert as_table(found) == as_table(pa.concat_tables([one.slice(0, 50), two.slice(0, 30)]))
    source = Prepare(source={"kind": "tabular", "path": "data/raw/rows", "target": "y"}).source
    assert len(sources.read(source, tiny.root)) == 2_080
    before, written = path.read_bytes(), path.stat().st_mtime_ns
    tiny.loop().add_rows()
    assert path.stat().st_mtime_ns == written, "the same labels: the file is not touched"
    path.unlink()
    tiny.loop().add_rows()
    assert path.read_bytes() == before


def test_a_row_that_was_predicted_and_labelled_twice_counts_once_with_the_latest_label(tiny):
    rows = table(1, 100)
    tiny.predict("monday", rows)
    tiny.add_version("b")
    newer = tiny.predict("monday", rows, f"{NAME}:2")
    tiny.label(rows)
    turned = ["no" if label == "yes" else "yes" for label in rows["y"].to_pylist()]
    tiny.label(rows.set_column(2, "y", pa.array(turned)), job=newer)
    added, *_ = tiny.loop().add_rows()
    assert added.rows == 100
    found = pq.read_table(tiny.raw / "modelmint-labelled.parquet")
    assert as_table(found) == as_table(rows.set_column(2, "y", pa.array(turned)))


def test_rows_of_an_earlier_training_that_are_gone_are_neither_trained_on_nor_removed(tiny):
    """The training read them, and the history said that no row was added."""
    rows = table(1, 50)
    tiny.predict("monday", rows)
    tiny.label(rows)
    tiny.loop().add_rows()
    path = tiny.raw / "modelmint-labelled.parquet"
    before = path.read_bytes()
    shutil.rmtree(tiny.output)
    with pytest.raises(InputError, match="none of them can be read again"):
        tiny.loop().add_rows()
    assert path.read_bytes() == before
    path.unlink()
    with pytest.raises(InputError, match=r"the rows of tiny:1: .* no job has labels"):
        tiny.loop().add_rows()


def test_no_training_has_the_same_rows_because_the_predicted_files_are_gone(tiny):
    """It ended as kept, and so the drift counted as answered for as long as the champion served."""
    rows = table(1, 150)
    tiny.predict("monday", rows)
    tiny.label(rows)
    path = tiny.root / "data/inbox/monday.parquet"
    path.unlink()
    with pytest.raises(InputError, match=f"the rows of tiny:1.*{path} left out: it is not"):
        tiny.loop().add_rows()
    edit_raw(tiny)
    assert tiny.loop().add_rows()[0].rows == 0, "there are other rows"


def test_raw_data_that_come_during_a_training_are_new_to_the_next_look(tiny):
    rules = {"triggers": ["data"], "data": "raw"}
    edit_raw(tiny)
    claimed = tiny.start(**rules)
    *_, data = tiny.loop(**rules).add_rows()
    pq.write_table(table(5).drop_columns(["key"]), tiny.raw / "new.parquet")
    tiny.loop().end(claimed, "kept", "ended", None, data=data)
    assert tiny.decide(30, **rules).cause == "data"


def test_row_numbers_of_two_jobs_are_two_rows(tiny):
    jobs = {}
    for name, seed in (("monday", 1), ("tuesday", 2)):
        rows = table(seed, 50)
        job = tiny.predict(name, rows.drop_columns(["key"]))
        numbered = rows.set_column(0, "key", pa.array([str(place) for place in range(50)]))
        tiny.label(numbered, job=job)
        jobs[name] = rows
    added, *_ = tiny.loop().add_rows()
    assert added.rows == 100
    found = pq.read_table(tiny.raw / "modelmint-labelled.parquet")
    assert as_table(found) == as_table(pa.concat_tables(list(jobs.values())))


@pytest.mark.parametrize("how", ["edited", "gone", "moved to done"])
def test_files_that_are_not_as_they_were_predicted_are_never_trained_on(tiny, how):
    one, two = table(1, 60), table(2, 40)
    tiny.predict("monday", one)
    tiny.predict("tuesday", two)
    tiny.label(pa.concat_tables([one, two]))
    path = tiny.root / "data/inbox/monday.parquet"
    if how == "edited":
        pq.write_table(table(3, 60).drop_columns(["y"]), path)
    elif how == "gone":
        path.unlink()
    else:
        (path.parent / "done").mkdir()
        path.rename(path.parent / "done/monday.parquet")
    loop = tiny.loop()
    added, *_ = loop.add_rows()
    if how == "moved to done":
        assert (added.rows, tiny.said) == (100, [])
        assert added.text == "100 labelled rows added to the raw data"
        return
    assert added.rows == 40
    why = "it was changed since it was predicted" if how == "edited" else "it is not there any more"
    assert added.text == "40 labelled rows added to the raw data, up to 60 left out"
    assert tiny.said == [f"up to 60 labelled rows of {path} left out: {why}"]


@pytest.mark.parametrize(
    ("prepare", "now"),
    [
        ({"source": {"kind": "tabular", "target": "a"}}, r"a \(classification\)"),
        ({"source": {"kind": "tabular", "target": "y"}, "task": "regression"}, r"y \(regression\)"),
    ],
)
def test_labels_of_another_target_than_that_of_now_are_not_written_into_its_column(
    tiny, prepare, now
):
    rows = table(1, 50)
    tiny.predict("monday", rows)
    tiny.label(rows)
    edit_raw(tiny)
    loop = tiny.loop()
    prepare["source"]["path"] = "data/raw/rows"
    loop = replace(loop, params=loop.params.model_copy(update={"prepare": Prepare(**prepare)}))
    assert loop.add_rows()[0].rows == 0
    assert not (tiny.raw / "modelmint-labelled.parquet").exists()
    (said,) = tiny.said
    assert re.search(f"do not predict {now}: the jobs of", said)
    assert said.endswith(f"{NAME}:1, which predicts y (classification)")


def test_a_table_of_the_user_that_is_called_labelled_stays_and_is_read(tiny):
    own = tiny.raw / "labelled.parquet"
    pq.write_table(table(77, 30).drop_columns(["key"]), own)
    before = own.read_bytes()
    rows = table(1, 50)
    tiny.predict("monday", rows)
    tiny.label(rows)
    loop = tiny.loop()
    loop.add_rows()
    assert own.read_bytes() == before
    assert len(sources.read(loop.params.prepare.source, tiny.root)) == 2_000 + 30 + 50


def test_labels_that_come_again_in_a_longer_file_are_no_new_labels(tiny):
    rows = table(1, 50)
    job = tiny.predict("monday", rows)
    counts = []
    turned = rows.set_column(2, "y", pa.array([*["no", "yes"] * 25]))
    changed = sum(pc.not_equal(rows["y"], turned["y"]).to_pylist())
    for given in (rows.slice(0, 30), rows, rows.slice(0, 49), turned):
        tiny.label(given)
        counts.append(gather_labels(tiny)[job])
    assert counts == [30, 50, 50, 50 + changed]
    tiny.loop().add_rows()
    found = pq.read_table(tiny.raw / "modelmint-labelled.parquet")
    assert as_table(found) == as_table(turned)


def gather_labels(tiny):
    return tiny.loop().decide()[0].labels


def test_the_pattern_of_a_window_is_not_called_a_change_of_params_yaml(tiny):
    params = tiny.loop(data="window").params
    pattern = {"pattern": "modelmint-labelled.parquet"}
    source = params.prepare.source.model_copy(update=pattern)
    prepare = params.prepare.model_copy(update={"source": source})
    then = params.model_copy(update={"prepare": prepare}).model_dump()
    tiny.add_version("b", params=then)
    assert tiny.loop(data="window")._differs(2) == ""
    then["prepare"]["source"]["pattern"] = "2024*"
    tiny.add_version("c", params=then)
    assert tiny.loop(data="window")._differs(3) == "prepare.source.pattern=None"


def test_only_the_sections_that_a_version_keeps_are_compared_with_params_yaml(tiny):
    """A version has neither `retrain` nor `tune`: 13 values of `tune` hid what had changed."""
    loop = tiny.loop()
    tune = loop.params.tune.model_copy(update={"trials": 99})
    loop = replace(loop, params=loop.params.model_copy(update={"tune": tune}))
    then = loop.params.model_dump(mode="json", exclude={"retrain", "tune"})
    tiny.add_version("b", params=then)
    assert loop._differs(2) == ""
    then["train"]["epochs"] += 1
    tiny.add_version("c", params=then)
    assert loop._differs(3) == f"train.epochs={loop.params.train.epochs}"


def test_a_window_has_only_the_labelled_rows_of_its_days(tiny):
    rows = table(1, 50)
    tiny.predict("monday", rows)
    tiny.label(rows)
    added, overrides, _ = tiny.loop(data="window", window=30).add_rows()
    assert (added.rows, overrides) == (50, ["prepare.source.pattern=modelmint-labelled.parquet"])
    with pytest.raises(InputError, match="no row of the last 30 days has a label"):
        tiny.loop(days=31, data="window", window=30).add_rows()


def test_rows_of_csv_are_written_as_the_other_tables_are(tiny, tmp_path):
    """With a comma for the decimal sign, in Latin-1, by the rules that the champion learnt."""
    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / "past.csv").write_bytes("a;note;y\n1,5;é;no\n-2,25;x;yes\n".encode("latin-1"))
    rows = table(1, 20)
    tiny.predict("monday", rows)
    tiny.label(rows)
    loop = tiny.loop()
    jobs = predicted(tiny.registry, NAME, jobs_below(tiny.registry, NAME, loop.output))
    found = labelled(jobs, loop.params.prepare, [])
    read_as = found[0].signature.read_as
    german = read_as.model_copy(update={"delimiter": ";", "decimal": ",", "encoding": "latin-1"})
    signature = found[0].signature.model_copy(update={"reading": german})
    job = added_rows.LabelledJob(found[0].report, signature, found[0].labels)
    added = added_rows.add(loop.params.prepare, folder, [job])
    assert added.rows == 20
    lines = (folder / "modelmint-labelled.csv").read_text("latin-1").splitlines()
    assert lines[0] == "a;note;y"
    values = [float(line.split(";")[0].replace(",", ".")) for line in lines[1:]]
    assert sorted(values) == sorted(rows["a"].to_pylist())
    assert {line.split(";")[1] for line in lines[1:]} == {""}


@pytest.mark.parametrize(
    ("source", "prepare", "message"),
    [
        ({"kind": "image", "path": "data/raw/rows"}, {}, "prepare.source.kind is image"),
        ({"path": "data/raw/rows/past.parquet"}, {}, "is a single file"),
        ({}, {"split_column": "part"}, "with prepare.split_column the test rows are given"),
        ({"test": "test-*"}, {}, "with prepare.source.test the test rows are given"),
        ({"pattern": "past*"}, {}, "leaves out modelmint-labelled.parquet"),
    ],
)
def test_sources_that_cannot_take_rows_are_refused(tiny, source, prepare, message):
    table = {"kind": "tabular", "path": "data/raw/rows", "target": "y"}
    given = Prepare(source={**({} if "kind" in source else table), **source}, **prepare)
    with pytest.raises(InputError, match=message) as caught:
        check(given, tiny.root / given.source.path)
    assert "retrain.data: raw" in str(caught.value)


@pytest.fixture
def worse(tiny, tmp_path):
    """`tiny` with the champion tiny:2, which says the opposite of tiny:1, and a labelled job."""
    folder = tmp_path / "worse"
    folder.mkdir()
    files = {name: shutil.copy(path, folder / name) for name, path in tiny.bundle.items()}
    graph = onnx.load(folder / "model.onnx")
    (slopes,) = [one for one in graph.graph.initializer if one.name == "slopes"]
    slopes.CopyFrom(onnx.numpy_helper.from_array(np.array([[0, -2]], np.float32), "slopes"))
    onnx.save(graph, folder / "model.onnx")
    tiny.bundle = {name: Path(path) for name, path in files.items()}
    tiny.add_version("b")
    rows = table(5)
    tiny.predict("monday", rows)
    tiny.label(rows)
    return tiny


def test_a_champion_that_labels_show_to_be_worse_is_proposed_once_to_be_rolled_back(worse):
    found = worse.loop(rollback="propose").rolled_back()
    assert (found.champion, found.before, found.done) == (f"{NAME}:2", f"{NAME}:1", "proposed")
    text = "tiny:2 has accuracy 0.0000, and tiny:1 1.0000 on the same 400 rows with labels"
    assert text in found.text
    assert worse.loop(rollback="propose").rolled_back().done == "known"
    (event,) = worse.registry.entries(NAME, "rollback")
    assert event.version == 2
    assert event.reason.endswith("; modelmint models rollback tiny")
    assert worse.registry.alias(NAME).version == 2
    assert text in proposed_rollback(worse.registry, NAME)
    worse.registry.rollback(NAME, actor="ada", reason="as proposed")
    assert proposed_rollback(worse.registry, NAME) == ""
    assert verify(worse.registry).problems == []


def test_an_automatic_rollback_happens_once_and_names_the_figures(worse):
    assert worse.loop(rollback="automatic").rolled_back().done == "rolled back"
    assert worse.loop(rollback="automatic").rolled_back() is None
    newest = worse.registry.history(NAME, alias="champion", limit=1)[0]
    assert (newest.kind, newest.version, newest.previous) == ("rolled back", 1, 2)
    assert "accuracy 0.0000, and tiny:1 1.0000 on the same 400 rows" in newest.reason
    assert newest.actor == "loop"


def test_nothing_is_rolled_back_without_enough_labels_or_if_it_is_off(worse):
    assert worse.loop(rollback="propose", labels=401).rolled_back() is None
    assert worse.loop(rollback="off").rolled_back() is None


def test_rows_whose_file_has_changed_compare_nothing(worse):
    pq.write_table(table(6).drop_columns(["y"]), worse.root / "data/inbox/monday.parquet")
    assert worse.loop(rollback="automatic").rolled_back() is None
    assert "it was changed since it was predicted" in worse.said[0]
    assert worse.registry.alias(NAME).version == 2


def test_a_version_before_that_predicts_another_target_is_not_compared(worse):
    source = {"kind": "tabular", "target": "returned"}  # of the same classes as y
    worse.registry.rollback(NAME, actor="ada", reason="test")
    number = worse.add_version("c", params={"prepare": {"source": source}})
    rows = table(6)
    worse.predict("tuesday", rows)
    worse.label(rows)
    assert worse.registry.alias(NAME).version == number
    assert worse.loop(rollback="automatic").rolled_back() is None
    assert worse.said[0].endswith(
        f"{NAME}:1 predicts y (classification), and not returned (classification)"
    )


def test_a_champion_as_good_as_the_one_before_stays(tiny):
    tiny.add_version("b")
    rows = table(5, flipped=0.3)
    tiny.predict("monday", rows)
    tiny.label(rows)
    assert tiny.loop(rollback="automatic").rolled_back() is None


@pytest.mark.parametrize(
    ("won", "lost", "worse"),
    [(0, 0, False), (5, 0, False), (8, 0, True), (30, 12, True), (30, 29, False)],
)
def test_a_version_is_worse_if_chance_does_not_explain_the_rows_that_one_alone_has_right(
    won, lost, worse
):
    labels = np.array(["yes"] * 200)
    champion, other = labels.copy(), labels.copy()
    champion[:won] = "no"
    other[100 : 100 + lost] = "no"
    found = compare(labels, champion, other, classes=True)
    assert found.worse == worse, found
    assert found.champion == 1 - won / 200
    assert found.other == 1 - lost / 200


@pytest.mark.parametrize(("shift", "worse"), [(0.0, False), (0.5, True), (-0.5, False)])
def test_numbers_are_compared_by_their_absolute_errors(shift, worse):
    draw = np.random.default_rng(0)
    labels = draw.normal(size=300)
    other = labels + draw.normal(0, 0.3, 300)
    champion = labels + draw.normal(0, 0.3, 300) + max(shift, 0)
    other = other - min(shift, 0)
    assert compare(labels, champion, other, classes=False).worse == worse
    same = compare(labels, labels, labels, classes=False)
    assert (same.worse, same.chance) == (False, 1.0)
