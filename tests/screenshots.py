"""Takes the pictures in docs/images: `make screenshots`, about six minutes.

A new project on made-up customers, a real server, runs of its deployments, and a real browser.
Before a page is pictured it must show what the docs say of it; the registry's must do so without
an error in the console.
"""

import csv
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

sys.path[:0] = [str(Path(__file__).parent / "helpers"), str(Path(__file__).parents[1])]
from browser import open_browser  # noqa: E402

IMAGES = Path(__file__).parents[1] / "docs/images"
WIDTH, HEIGHT = 1280, 900
MOST_BYTES = 150_000
PLANS = np.array(["basic", "plus", "family"])
TOWNS = np.array(["Bern", "Basel", "Zug", "Chur", "Thun"])
QUICK = "train.epochs=6"
BROKEN = 4
"""The day whose file lacks values."""


def customers(seed: int, rows: int, *, dearer: float = 0.0, label: bool = False) -> str:
    """Customers as CSV; `dearer` adds to what each pays a month."""
    rng = np.random.default_rng(seed)
    plan = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
    fee = (20 + 15 * plan + rng.gamma(3, 2, rows) + dearer).round(2)
    months, calls = rng.integers(1, 72, rows), rng.poisson(1.5, rows)
    leaves = 0.06 * (fee - 35) - 0.06 * (months - 30) + 0.9 * (calls - 1.5)
    left = leaves + rng.logistic(0, 0.7, rows) > 0
    columns: dict[str, Any] = {
        "customer": [f"{seed:02d}-{number:05d}" for number in range(rows)],
        "fee": fee,
        "months": months,
        "calls": calls,
        "plan": PLANS[plan],
        "town": rng.choice(TOWNS, rows),
    }
    if label:
        columns["left"] = np.where(left, "yes", "no")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Demo:
    """The project, its server and the page of its registry."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "churn"
        self.prefect, self.registry = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.started: list[subprocess.Popen[bytes]] = []
        author = {
            f"GIT_{who}_{what}": "ada@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODELMINT", "PREFECT"))}
        self.variables = {
            **kept, **author, "HOME": str(folder), "LOGNAME": "ada", "USER": "ada",
            "PREFECT_HOME": str(folder / "prefect"), "MODELMINT_UI_URL": self.registry,
        }  # fmt: skip

    def modelmint(self, *arguments: str, status: int = 0, where: Path | None = None) -> None:
        done = subprocess.run(
            ["modelmint", *arguments],
            cwd=where or self.root,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != status:
            raise SystemExit(f"modelmint {' '.join(arguments)}: {done.stdout}{done.stderr}")

    def start(self, *arguments: str, until: str) -> None:
        """Start a command of modelmint, and wait until an address answers."""
        log = (self.root.parent / f"{arguments[0]}.log").open("wb")
        self.started.append(
            subprocess.Popen(
                ["modelmint", *arguments],
                cwd=self.root,
                env=self.variables,
                stdout=log,
                stderr=log,
            )
        )
        for _ in range(1_200):
            try:
                if httpx.get(until, timeout=60).is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        raise SystemExit(f"{until} does not answer; see {log.name}")

    def end(self) -> None:
        for process in self.started:
            process.terminate()
        for process in self.started:
            process.wait(60)

    def api(self, path: str, **content: Any) -> Any:
        answer = httpx.post(f"{self.prefect}/api/{path}", json=content, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> str:
        """The id of a served deployment, once it is there."""
        for _ in range(120):
            for found in self.api("deployments/filter"):
                if found["name"].startswith(name):
                    return str(found["id"])
            time.sleep(0.5)
        raise SystemExit(f"no deployment {name} is served")

    def run(self, name: str, expected: str, **parameters: Any) -> str:
        """Run a deployment to its end, which must have a state of this name. Returns its id."""
        path = f"deployments/{self.deployment(name)}/create_flow_run"
        run = self.api(path, parameters=parameters)["id"]
        for _ in range(1_200):
            state = httpx.get(f"{self.prefect}/api/flow_runs/{run}", timeout=60).json()["state"]
            if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                break
            time.sleep(0.5)
        if state["name"] != expected:
            raise SystemExit(f"{name} ended as {state['name']}: {state['message']}")
        return str(run)


@contextmanager
def demo() -> Iterator[Demo]:
    folder = Path(tempfile.gettempdir()) / "modelmint-screens"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made = Demo(folder)
    try:
        yield made
    finally:
        made.end()


def fill(made: Demo) -> dict[str, str]:
    """Train three times and predict some days. Returns the ids of the runs to be shown."""
    folder = made.root.parent
    (folder / "churn.csv").write_text(customers(0, 4_000, label=True))
    made.modelmint("new", "churn", "--from", "churn.csv", where=folder)
    port = made.prefect.rpartition(":")[2]
    made.start("serve", "--port", port, until=f"{made.prefect}/api/health")
    logistic = "train.architecture={name: logistic}"
    made.run("weekly", "Completed", overrides=[logistic, QUICK])
    training = made.run("weekly", "Completed", overrides=[QUICK])
    made.run("weekly", "Refused", overrides=["train.epochs=1", "evaluate.gates.accuracy=0.99"])
    for days, expected in (([1, 2, 3], "Completed"), ([4, 5], "Failed"), ([6], "Left out")):
        for day in days:
            text = customers(day, 1_500, dearer=4.0 if day > 5 else 0.0)
            path = made.root / f"data/inbox/2026-11-{day:02d}.csv"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.replace(",plus,", ",,") if day == BROKEN else text)
            os.utime(path, (time.time() - 60,) * 2)
        drifted = made.run("hourly", expected)
    port = made.registry.rpartition(":")[2]
    made.start("models", "ui", "--port", port, until=f"{made.registry}/healthz")
    return {"training": training, "drifted": drifted}


def save(page: Page, name: str, height: int = HEIGHT, last: str | None = None) -> None:
    """A picture with few colours, a quarter of the bytes.

    A page of the registry is shown to its end, or to the end of its `last` region; one of Prefect's
    scrolls within itself and ends at `height`.
    """
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.wait_for_timeout(1_500)  # animations
    raw = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    if last and (box := page.get_by_role("region", name=last).bounding_box()):
        raw = raw.crop((0, 0, WIDTH, round(box["y"] + box["height"] + 16)))
    path = IMAGES / f"{name}.png"
    raw.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,}")


def registry_pages(page: Page, made: Demo) -> None:
    page.goto(made.registry)
    expect(page.get_by_role("link", name="churn").first).to_be_visible()
    save(page, "registry-models", 360)
    page.goto(f"{made.registry}/models/churn")
    expect(page.get_by_role("region", name="Drift")).to_contain_text("fee")
    save(page, "registry-model", last="Drift")
    page.goto(f"{made.registry}/models/churn/versions/2")
    expect(page.get_by_role("heading", name="Confusion matrix")).to_be_visible()
    expect(page.locator(f"a[href^='{made.prefect}/runs/flow-run/']").first).to_be_visible()
    save(page, "registry-version", last="Lineage")
    page.goto(f"{made.registry}/compare?left=churn:1&right=churn:2")
    expect(page.get_by_text("churn:2").first).to_be_visible()
    save(page, "registry-compare")
    page.goto(f"{made.registry}/models/churn/history")
    expect(page.get_by_text("refused", exact=True).first).to_be_visible()
    assert page.locator(f"a[href^='{made.prefect}/runs/flow-run/']").count() >= 3
    save(page, "registry-history", 600)
    page.goto(f"{made.registry}/jobs")
    expect(page.get_by_text("failed", exact=True).first).to_be_visible()
    save(page, "registry-jobs", 600)
    page.get_by_role("link", name="drifted").first.click()
    expect(page.get_by_role("region", name="Drift")).to_contain_text("fee")
    save(page, "registry-job")


def prefect_pages(page: Page, made: Demo, runs: dict[str, str]) -> None:
    page.goto(f"{made.prefect}/runs")
    expect(page.get_by_text("Refused").first).to_be_visible()
    save(page, "prefect-runs", 1_370)
    page.goto(f"{made.prefect}/runs/flow-run/{runs['training']}")
    page.get_by_text("Task Runs", exact=True).click()
    expect(page.get_by_text("challenge the champion", exact=True).first).to_be_visible()
    save(page, "prefect-run", 1_340)
    page.goto(f"{made.prefect}/runs/flow-run/{runs['drifted']}")
    page.get_by_text("Artifacts", exact=True).click()
    page.get_by_text("churn-drift").first.click()
    expect(page.get_by_text("drifted", exact=True).first).to_be_visible()
    expect(page.locator(f"a[href^='{made.registry}/jobs/']").first).to_be_visible()
    save(page, "prefect-drift", 760)
    page.goto(f"{made.prefect}/deployments/deployment/{made.deployment('hourly')}/run")
    expect(page.get_by_text("max_bad").first).to_be_visible()
    save(page, "prefect-form", 1_420)


def main() -> None:
    complaints: list[str] = []
    with demo() as made, open_browser() as browser:
        runs = fill(made)
        IMAGES.mkdir(exist_ok=True)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.on("console", lambda said: complaints.append(f"{page.url}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        registry_pages(page, made)
        if complaints:  # before Prefect's pages, whose console is not ours
            raise SystemExit("\n".join(complaints))
        prefect_pages(page, made, runs)
    known = {p.name for p in IMAGES.glob("*.png")}
    print(f"{len(known)} pictures in {IMAGES}")


if __name__ == "__main__":
    main()
