"""Opens reports and the live page in headless Chromium, narrow and wide, light and dark: nothing may be wrong in the console, no
page may be wider than the window, every chart must be there, and the live page must follow a run that goes on. Pictures of all go
to a folder."""

import pathlib
import re
import subprocess
import sys

from playwright.sync_api import sync_playwright

WINDOWS = {"narrow": (390, 844), "wide": (1400, 900)}


class Page:
    """A page in a window, with what its console says."""

    def __init__(self, browser, address, window, scheme):
        width, height = WINDOWS[window]
        self.page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.said = []
        self.page.on("console", lambda message: self.said.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("requestfailed", lambda request: self.said.append(f"{request.url} failed"))
        self.page.goto(address)

    def check(self, name, charts):
        assert not self.said, f"{name}: the console says {self.said}"
        over = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert over <= 0, f"{name}: {over} pixels wider than the window"
        boxes = self.page.evaluate("[...document.querySelectorAll('figure svg')].map((svg) => svg.getBoundingClientRect().height)")
        assert len(boxes) >= charts and all(height > 100 for height in boxes), f"{name}: charts of heights {boxes}"


def look_at(browser, folder, name, address, charts):
    for window in WINDOWS:
        for scheme in ("light", "dark"):
            opened = Page(browser, address, window, scheme)
            opened.check(f"{name}, {window}, {scheme}", charts)
            opened.page.screenshot(path=folder / f"{name}-{window}-{scheme}.png", full_page=True)
            opened.page.close()
    print(f"{name}: in two windows, light and dark, with {charts} charts or more and nothing in the console")


def follow(browser, folder, gradmax):
    run = folder / "live"
    training = subprocess.Popen(
        [gradmax, "train", "digits_cnn", "--out", run, "--set", "training.epochs=1000", "--quiet"], stderr=subprocess.DEVNULL
    )
    while not (run / "metrics.csv").exists():
        assert training.poll() is None, "the run has ended"
    watch = subprocess.Popen([gradmax, "watch", run, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+/", watch.stdout.readline()).group()
        look_at(browser, folder, "live", address, 3)
        opened = Page(browser, address, "wide", "light")
        step = lambda: opened.page.locator("tr", has_text="running").locator("td").nth(1).inner_text()
        opened.page.locator("summary", has_text="of the experiment").click()
        first = step()
        opened.page.wait_for_function(f"!document.body.innerText.includes({first!r})", timeout=30_000)
        assert step() != first and opened.page.locator("details", has_text="of the experiment").get_attribute("open") is not None
        opened.check("live, followed", 3)
        watch.terminate()
        watch.wait()
        opened.page.wait_for_selector("text=gradmax watch has ended", timeout=30_000)
        print(f"live: followed from {first} on; says so when the server has ended")
    finally:
        for process in (training, watch):
            process.kill()


def main(folder, gradmax, chromium):
    folder.mkdir(parents=True, exist_ok=True)
    call = lambda *arguments: subprocess.run([gradmax, *map(str, arguments)], check=True, capture_output=True)
    call("compare", "teacher_student", "--seeds", 5, "--out", folder / "comparison", "--quiet")
    call("train", "digits_mlp", "--out", folder / "run", "--set", "data.validation=0.1", "--set", "training.keep=best", "--quiet")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, charts in [("comparison", 8), ("run", 6)]:
            look_at(browser, folder, name, (folder / name / "report.html").as_uri(), charts)
        follow(browser, folder, gradmax)
        browser.close()


main(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3])
