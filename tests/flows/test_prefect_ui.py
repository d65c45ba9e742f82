"""The Prefect UI in a real browser."""

import pytest
from browser import open_browser, save_screenshot
from playwright.sync_api import Page, expect
from projects import Project


@pytest.fixture(scope="module")
def page():
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(30_000)
        yield page


def test_the_prefect_ui_shows_the_run_its_stages_and_artifacts(
    trained: Project, prefect_server, page: Page
):
    outcome = trained.train("-S", "train.seed=77")
    ui = prefect_server.removesuffix("/api")
    page.goto(f"{ui}/runs/flow-run/{outcome['flow_run_id']}")
    expect(page.get_by_text("train logistic on digits").first).to_be_visible()
    expect(page.get_by_text("Completed").first).to_be_visible()
    save_screenshot(page, "run")
    page.get_by_text("Task Runs", exact=True).click()
    for name in ("train", "export", "register digits", "challenge the champion"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).click()
    for key in ("digits-model-card", "digits-gate-verdicts", "digits-version"):
        expect(page.get_by_text(key).first).to_be_visible()
    save_screenshot(page, "artifacts")
    page.get_by_text("digits-model-card").first.click()
    expect(page.get_by_text("Confusion matrix").first).to_be_visible()
    expect(page.get_by_text("macro_f1").first).to_be_visible()
    save_screenshot(page, "model-card")
    page.goto(f"{ui}/artifacts")
    expect(page.get_by_text("train-progress").first).to_be_visible()
