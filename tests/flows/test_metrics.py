"""`/metrics`: read by a real Prometheus, from a real registry and a real Prefect server."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.context import SettingsContext
from prefect.states import Completed, Failed, Pending, Running
from projects import enter
from prometheus_client.parser import text_string_to_metric_families
from receivers import free_port
from registry_helpers import drift_document, make_candidate, promote

from flows import metrics
from flows.addresses import free_address
from flows.deploy import read_deployments
from flows.notify.attempt import Attempt
from flows.notify.channels import Channel
from flows.notify.message import message
from flows.notify.outbox import Outbox
from flows.project import new_project
from flows.settings import Settings
from registry import Policy
from registry.transfer.backup import backup
from tasks.errors import InputError

ROOT = Path(__file__).parents[2]
COLUMN = 'income "net"\\year\nin €'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return new_project(tmp_path_factory.mktemp("metrics") / "project", None).root


@pytest.fixture
def settings(made, tmp_path, monkeypatch):
    enter(made, tmp_path, monkeypatch)
    return Settings.from_environment()


@pytest.fixture
def filled(settings, tmp_path, monkeypatch):
    """A registry with something for each metric, a backup of it, and a channel."""
    with settings.open_registry() as registry:
        for number in (1, 2):
            candidate = make_candidate(tmp_path / str(number), f"model {number}")
            registry.register("digits", candidate, actor="ada")
        promote(registry, 1)
        registry.set_policy("digits", Policy(four_eyes=True), actor="ada")
        promote(registry, 2, "challenger")
        job = registry.start_job(registry.resolve("digits"), input_sha256="0" * 64, output="/bad")
        registry.fail_job(job, "OSError: disk full")
        given = {"provider": "CPU", "onnxruntime": "1"}
        for number, drift in enumerate((drift_document("drifted", COLUMN), None)):
            job = registry.start_job(
                registry.resolve("digits"), input_sha256="0" * 64, output=f"/{number}"
            )
            registry.finish_job(job, rows=100, quarantined=number, drift=drift, **given)
        backup(registry, tmp_path / "backup")
    monkeypatch.setenv("MODELMINT_BACKUP", str(tmp_path / "backup"))
    state = tmp_path / "state.json"
    outbox = Outbox(state, [Channel("mail", "host", {})], lambda *_: Attempt(False, "down"))
    outbox.add([message("failed", "hourly", "failed", "", project="p", key="1")])
    outbox.send()
    return state


@pytest.fixture
def hourly(api, settings, monkeypatch):
    # For the thread that answers, too; a watcher has the server's URL in its environment.
    monkeypatch.setattr("prefect.context.GLOBAL_SETTINGS_CONTEXT", SettingsContext.get())
    (given,) = [d for d in read_deployments(settings.root / "prefect.yaml") if "hourly" in d.name]
    number = given.apply()
    for states in ((Completed(),), (Failed(message="bad"),), ()):
        run = api.create_flow_run_from_deployment(number)
        for state in (Pending(), Running(), *states):
            api.set_flow_run_state(run.id, state, force=True)
    yield number
    api.delete_deployment(number)


def scrape(url):
    with urllib.request.urlopen(url, timeout=60) as reply:
        return reply.read().decode()


def samples(settings, state):
    return {
        (one.name, tuple(one.labels.values())): one.value
        for family in metrics.metrics(settings, state)
        for one in family.samples
    }


def test_every_metric_has_the_value_that_the_registry_and_prefect_have(
    api, settings, filled, hourly
):
    found = samples(settings, filled)
    expected = {
        ("registry_up",): 1,
        ("prefect_up",): 1,
        ("models_left_out",): 0,
        ("model_versions", "digits"): 2,
        ("approval_waiting", "digits"): 1,
        ("jobs_24h", "digits", "completed"): 2,
        ("jobs_24h", "digits", "failed"): 1,
        ("job_rows_24h", "digits"): 200,
        ("job_quarantined_rows_24h", "digits"): 1,
        ("drift_verdict", "digits"): 2,
        ("drift_columns", "digits"): 1,
        ("drift_psi", "digits", COLUMN): 0.31,
        ("deployment_served", "hourly"): 0,
        ("runs_24h", "hourly", "completed"): 1,
        ("runs_24h", "hourly", "failed"): 1,
        ("runs_24h", "hourly", "crashed"): 0,
        ("runs_active", "hourly", "running"): 1,
        ("runs_late", "hourly"): 0,
        ("last_run_failed", "hourly"): 1,
        ("notifications_sent_total", "mail"): 0,
        ("notifications_waiting", "mail"): 1,
        ("notifications_failing", "mail"): 1,
        ("backup_ok",): 1,
    }
    for (name, *labels), value in expected.items():
        assert found[f"modelmint_{name}", tuple(labels)] == value, name
    now = datetime.now(UTC).timestamp()
    for name, *labels in (
        ("champion_since_timestamp_seconds", "digits", "1"),
        ("last_job_start_timestamp_seconds", "digits", "completed"),
        ("last_run_end_timestamp_seconds", "hourly", "failed"),
        ("backup_timestamp_seconds",),
    ):
        assert now - 600 < found[f"modelmint_{name}", tuple(labels)] <= now, name


def test_a_source_that_is_down_has_up_at_zero_and_the_other_is_still_shown(
    settings, tmp_path, monkeypatch
):
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    down = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(down):
        found = samples(settings, tmp_path / "none.json")
        assert found == {("modelmint_registry_up", ()): 1, ("modelmint_prefect_up", ()): 0}
        monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{tmp_path}/no/such/folder/r.db")
        monkeypatch.setenv("MODELMINT_BACKUP", str(tmp_path / "nothing"))
        (tmp_path / "registry.db").write_bytes(b"no database" * 1000)
        broken = samples(settings, tmp_path / "none.json")
    assert broken["modelmint_registry_up", ()] == 0
    assert broken["modelmint_backup_ok", ()] == 0


def test_labels_are_escaped_and_the_text_can_be_parsed(api, settings, filled, hourly, monkeypatch):
    monkeypatch.setattr(metrics, "FRESH_S", 3600.0)
    url = metrics.serve_metrics(settings, f"127.0.0.1:{free_port()}", filled)
    text = scrape(url)
    families = {f.name: f for f in text_string_to_metric_families(text)}
    (psi,) = [s for s in families["modelmint_drift_psi"].samples if s.labels["column"] == COLUMN]
    assert psi.value == 0.31
    assert all(family.documentation for family in families.values())
    with settings.open_registry() as registry:
        registry.start_job(registry.resolve("digits"), input_sha256="0" * 64, output="/more")
    assert text == scrape(url)  # a second one within FRESH_S costs no query


def test_metrics_need_no_scan_of_all_jobs_or_events(settings, filled):
    from registry.queries import jobs

    with settings.open_registry() as registry, registry.database.read() as c:
        statements = []
        execute = c.execute

        def explained(statement, *given):
            text = str(statement.compile(c.engine, compile_kwargs={"literal_binds": True}))
            statements.append(text)
            return execute(statement, *given)

        c.execute = explained
        since = datetime.now(UTC)
        jobs.totals(c, since)
        jobs.between(c, since, None, 10)
        jobs.latest(c, "digits", 50)
        plans = [
            row[3]
            for text in statements
            for row in c.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()
        ]
    read = [plan for plan in plans if re.match(r"(SCAN|SEARCH) jobs\b", plan)]
    assert len(read) >= 4
    assert all("INDEX" in plan for plan in read), read
    assert not [plan for plan in read[:2] if plan.startswith("SCAN")], read


@pytest.mark.parametrize(
    "text", ["many", "0", "70000", "host:", "127.0.0.1:x", "no.such.host:9464"]
)
def test_an_address_where_nothing_can_listen_is_refused(text):
    with pytest.raises(InputError, match=f"--metrics {text}: "):
        free_address(text)


def test_an_address_that_is_taken_is_refused():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match="choose another port"):
            free_address(str(port))
    assert free_address(f"127.0.0.1:{port}") == f"127.0.0.1:{port}"


def exposed(settings, state):
    """Name and labels of every metric."""
    return {
        one.name: set(one.labels) for f in metrics.metrics(settings, state) for one in f.samples
    }


def queries():
    dashboard = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


def test_the_dashboard_asks_for_metrics_and_labels_that_exist(api, settings, filled, hourly):
    names = exposed(settings, filled)
    used = set()
    for title, expression, legend in queries():
        asked = set(re.findall(r"modelmint_\w+", expression))
        assert asked, title
        assert asked <= names.keys(), title
        labels = set(re.findall(r"{{(\w+)}}", legend))
        assert labels <= set.union(*(names[name] for name in asked)), title
        used |= asked
    assert len(used) >= 18


def test_the_page_on_monitoring_lists_every_metric_with_its_labels(api, settings, filled, hourly):
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(modelmint_\w+)(?:{([\w, ]+)})?` \|", page, re.MULTILINE)
    listed = {name: set(labels.split(", ")) - {""} for name, labels in rows}
    assert listed == exposed(settings, filled)


@pytest.mark.skipif(not shutil.which("prometheus"), reason="there is no prometheus on PATH")
def test_a_real_prometheus_reads_the_metrics_and_answers_the_queries_of_the_dashboard(
    api, settings, filled, hourly, tmp_path
):
    url = metrics.serve_metrics(settings, f"127.0.0.1:{free_port()}", filled)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape(url), capture_output=True, text=True
    )
    assert checked.returncode in (0, 3), checked.stderr  # 3: advice on names
    assert "counter" not in checked.stderr
    place = urllib.parse.urlsplit(url).netloc
    (tmp_path / "prometheus.yml").write_text(
        "scrape_configs:\n"
        "  - job_name: modelmint\n"
        "    scrape_interval: 1s\n"
        f"    static_configs: [{{targets: ['{place}']}}]\n"
    )
    port = free_port()
    server = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
    )
    try:
        found = {}
        deadline = time.monotonic() + 120
        while not found.get("modelmint_registry_up"):
            assert time.monotonic() < deadline, "Prometheus has no sample"
            time.sleep(0.5)
            try:
                found["modelmint_registry_up"] = ask(port, "modelmint_registry_up")
            except OSError:
                continue
        answers = {expression: ask(port, expression) for _, expression, _ in queries()}
    finally:
        server.terminate()
        server.wait(30)
    assert [expression for expression, answer in answers.items() if not answer] == []
    (psi,) = answers["topk(10, modelmint_drift_psi)"][:1]
    assert psi["metric"]["column"] == COLUMN


def ask(port, expression):
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=30) as got:
        document = json.load(got)
    assert document["status"] == "success", document
    return document["data"]["result"]
