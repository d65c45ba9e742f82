"""The Prefect UI as a person sees it, in a real browser."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import Project
from playwright.sync_api import Page, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# The browser's own errands; the network of a test machine may be closed.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
SCREENSHOTS = os.environ.get("MODELMINT_TEST_SCREENSHOTS")


@pytest.fixture(scope="module")
def page():
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        yield page
        browser.close()


def test_the_run_its_stages_and_its_artifacts_are_seen(
    trained: Project, prefect_server, page: Page
):
    outcome = trained.train("-S", "train.seed=77")
    ui = prefect_server.removesuffix("/api")
    page.goto(f"{ui}/runs/flow-run/{outcome['flow_run_id']}")
    expect(page.get_by_text("train logistic on digits").first).to_be_visible()
    expect(page.get_by_text("Completed").first).to_be_visible()
    _keep(page, "run")
    page.get_by_text("Task Runs", exact=True).click()
    for name in ("train", "export", "register digits", "challenge the champion"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).click()
    for key in ("digits-model-card", "digits-gate-verdicts", "digits-version"):
        expect(page.get_by_text(key).first).to_be_visible()
    _keep(page, "artifacts")
    page.get_by_text("digits-model-card").first.click()
    expect(page.get_by_text("Confusion matrix").first).to_be_visible()
    expect(page.get_by_text("macro_f1").first).to_be_visible()
    _keep(page, "model-card")
    page.goto(f"{ui}/artifacts")
    expect(page.get_by_text("train-progress").first).to_be_visible()


def _keep(page: Page, name: str) -> None:
    """Keep a picture where somebody asked for pictures."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)
