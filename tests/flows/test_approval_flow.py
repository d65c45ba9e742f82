"""The approval flow in the Prefect UI, with a real server, process and browser."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from browser import open_browser, save_screenshot
from playwright.sync_api import expect
from projects import Project, make_project
from registry_helpers import make_candidate

from registry import Policy, Registry

MODELS = ("good", "poor", "own", "moved", "decided")


@dataclass
class Office:
    """A served project in which version 2 of each model waits for approval."""

    project: Project
    registry: Registry
    api: object
    links: dict[str, str]

    def run(self, model: str):
        return self.api.read_flow_run(UUID(self.links[model].rsplit("/", 1)[1]))

    def until(self, model: str, *names: str, seconds: float = 90):
        """The flow run once it is in a state of one of these names."""
        deadline = time.monotonic() + seconds
        while (run := self.run(model)).state_name not in names:
            assert time.monotonic() < deadline, f"{run.name} is {run.state}"
            assert not run.state.is_final(), f"{run.name} is {run.state}"
            time.sleep(0.2)
        return run

    def answer(self, model: str, decision: str, name: str) -> None:
        """Resume as the UI does."""
        given = {"decision": decision, "name": name, "reason": f"{name} looked"}
        self.api.resume_flow_run(self.run(model).id, run_input=given)

    def champion(self, model: str) -> int:
        return self.registry.alias(model).version

    def decisions(self, model: str) -> list[tuple]:
        """Who did what to version 2, newest first."""
        events = self.registry.history(model, version=2)
        return [(e.kind, e.actor, e.reason) for e in events if e.kind != "registered"]


@pytest.fixture(scope="module")
def office(tmp_path_factory, prefect_server: str) -> Iterator[Office]:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    project = make_project(tmp_path_factory.mktemp("approval") / "project")
    project.environment["PREFECT_API_URL"] = prefect_server
    project.environment["PREFECT_RUNNER_POLL_FREQUENCY"] = "1"
    database = f"sqlite:///{project.root / 'modelmint.db'}"
    here = Path.cwd()
    served = project.start("modelmint", "serve", forked=True)
    try:
        with (
            Registry(database, str(project.root / "artifacts")) as registry,
            temporary_settings({PREFECT_API_URL: prefect_server}),
            get_client(sync_client=True) as api,
        ):
            _fill(registry, project.root.parent)
            os.chdir(project.root)  # request_approval uses the project of the current folder
            yield Office(project, registry, api, _ask_all(served))
    finally:
        os.chdir(here)
        served.send_signal(signal.SIGINT)
        served.wait(30)
        served.stdout.close()


def _fill(registry: Registry, folder: Path) -> None:
    for model in MODELS:
        for number in (1, 2, 3):
            candidate = make_candidate(
                folder / "bundle",
                f"{model} {number}",
                metrics={"accuracy": 0.9 + number / 100},
                evaluation={
                    "passed": True,
                    "gates": [
                        {"gate": "accuracy", "value": 0.9, "condition": ">= 0.8", "passed": True}
                    ],
                },
            )
            registry.register(model, candidate, actor="ada")
        registry.promote(model, 1, expect_revision=0, actor="ada", reason="first")
        registry.set_policy(model, Policy(four_eyes=True), actor="ada")


def _ask_all(served) -> dict[str, str]:
    from flows.approval import request_approval

    deadline = time.monotonic() + 60
    while not (first := request_approval(f"{MODELS[0]}:2", "it is better")):
        assert time.monotonic() < deadline
        assert served.poll() is None, served.stdout.read()
        time.sleep(0.2)
    others = {model: request_approval(f"{model}:2", "it is better") for model in MODELS[1:]}
    return {MODELS[0]: first, **others}


def _submit(form) -> None:
    """Click until the form closes: a server whose database is busy ignores a click."""
    for _ in range(4):
        form.get_by_role("button", name="Submit").click()
        with contextlib.suppress(AssertionError):
            expect(form).to_be_hidden(timeout=15_000)
            return
    raise AssertionError("the form did not close")


def test_approving_a_version_in_the_prefect_ui_makes_it_champion(office: Office):
    from flows.approval import request_approval

    office.until("good", "Suspended")
    assert request_approval("good:2", "asked again") == office.links["good"]
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(office.links["good"])
        page.get_by_role("button", name="Resume").click()
        form = page.locator(".p-modal__card")
        expect(form.get_by_text("in place of good:1? Reason: it is better")).to_be_visible()
        for text in ("0.9200", "0.9100", ">= 0.8", "passed"):
            expect(form.get_by_text(text, exact=True)).to_be_visible()
        card = form.get_by_text("Model card").get_attribute("href")
        for label, text in {"Decision": "yes", "Name": "bob", "Reason": "fewer errors"}.items():
            _field(page, label).fill(text)
        form.get_by_role("button", name="Submit").click()
        expect(page.get_by_text("'yes' does not match").first).to_be_visible()
        save_screenshot(page, "approval-form")
        _field(page, "Decision").fill("approve")
        _submit(form)
        expect(page.get_by_text("Approved", exact=True).first).to_be_visible(timeout=60_000)
        save_screenshot(page, "approval-given")
        page.goto(card)
        expect(page.get_by_role("heading", name="card", exact=True)).to_be_visible()
        save_screenshot(page, "approval-question")
    assert office.champion("good") == 2
    reason = "fewer errors (answered in the Prefect UI)"
    assert office.decisions("good") == [("promoted", "bob", reason), ("approved", "bob", reason)]


def _field(page, label: str):
    """The text area under a label of the form; the HTML does not connect the two."""
    named = page.get_by_text(label, exact=True)
    return page.locator(".schema-form-properties > *").filter(has=named).locator("textarea")


def test_rejecting_a_version_keeps_the_champion(office: Office):
    office.until("poor", "Suspended")
    office.answer("poor", "reject", "bob")
    run = office.until("poor", "Rejected")
    assert run.state.message == "poor:2 was rejected by bob: bob looked"
    assert office.champion("poor") == 1
    assert office.registry.resolve("poor:2").version.status == "rejected"


def test_an_approval_after_the_champion_changed_fails_and_keeps_the_alias(office: Office):
    office.until("moved", "Suspended")
    office.registry.approve("moved", 3, actor="eve", reason="better still")
    office.registry.promote("moved", 3, expect_revision=1, actor="eve", reason="better still")
    office.answer("moved", "approve", "bob")
    run = office.until("moved", "Failed")
    assert "the question was asked; it was moved:1 then" in run.state.message
    assert run.state.message.endswith("modelmint models promote moved:2")
    assert office.champion("moved") == 3
    assert office.registry.resolve("moved:2").version.status == "approved"


def test_an_answer_after_the_version_was_rejected_changes_nothing(office: Office):
    office.until("decided", "Suspended")
    office.registry.reject("decided", 2, actor="eve", reason="too slow")
    office.answer("decided", "approve", "bob")
    run = office.until("decided", "Decided")
    assert run.state.message == "decided:2 is already rejected, by eve: too slow"
    assert office.decisions("decided") == [("rejected", "eve", "too slow")]


def test_approving_your_own_version_fails(office: Office):
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    office.until("own", "Suspended")
    office.answer("own", "approve", " ada ")
    run = office.until("own", "Failed")
    assert "own:2 was registered by ada" in run.state.message
    assert "somebody else" in run.state.message
    assert (office.champion("own"), office.decisions("own")) == (1, [])
    mine = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    deadline = time.monotonic() + 20  # logs come in batches
    while not any(log.level >= logging.ERROR for log in office.api.read_logs(mine)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not any("\n" in log.message for log in office.api.read_logs(mine))


def test_a_retried_approval_without_an_answer_ends_unanswered(office: Office):
    from prefect.automations import Automation
    from prefect.states import Scheduled

    from flows.approval import UNANSWERED

    office.until("own", "Failed")
    rule = Automation.read(name=UNANSWERED)
    assert rule.trigger.within == timedelta(days=7)
    rule.trigger.within = timedelta(seconds=10)
    rule.update()
    try:
        retry = Scheduled(name="AwaitingRetry")
        office.api.set_flow_run_state(office.run("own").id, retry, force=True)
        office.until("own", "Suspended")
        run = office.until("own", "Unanswered")
    finally:
        rule.delete()
    assert run.state.is_failed()
    assert office.registry.resolve("own:2").version.status == "candidate"


def test_request_approval_returns_none_if_the_deployment_is_not_served(
    office: Office, prefect_server
):
    from flows.approval import DEPLOYMENT, request_approval
    from flows.deploy import deployed_name

    name = deployed_name(DEPLOYMENT, office.project.root)
    deployment = office.api.read_deployment_by_name(f"approval/{name}")
    office.api.pause_deployment(deployment.id)  # as `modelmint serve` does when it is stopped
    assert request_approval("good:3", "it is better") is None
    office.api.delete_deployment(deployment.id)
    assert request_approval("good:3", "it is better") is None
