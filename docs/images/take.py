"""Take the pictures of the search page in its guide: `python docs/images/take.py`, with the embedded models."""

from __future__ import annotations

import base64
import sys
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from thresher import build_index
from thresher.serve import ServeSettings, create_app
from thresher.serve.run import Server

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "integration" / "serve"))
from page_corpus import PASSAGES

HERE = Path(__file__).parent

RECIPE = """
[encode]
encoder = "bm25+thresher-mini"

[vectors]

[prune]
estimator = "embedded"
keep = 0.75

[ask]
rerank = "thresher-context"
"""
QUESTION = "/?q=what+separates+grain+from+chaff"
PICTURES = [  # name, width, height, scheme, path
    ("search-page", 1360, 860, "light", QUESTION),
    ("search-page-compare", 1360, 860, "dark", f"{QUESTION}&versus=select"),
    ("search-page-narrow", 400, 800, "light", f"{QUESTION}&is.topic=harvest"),
    ("search-page-index", 1000, 860, "light", "/page/about.html"),
]


def take(page: Page, url: str, width: int, height: int, scheme: str) -> bytes:
    """One picture, as WebP."""
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    for _ in range(2):  # the second time everything is warm, and the milliseconds are those of a server that runs
        page.goto(url)
        page.locator("#live:not(:empty)").wait_for(state="attached")
        page.wait_for_timeout(500)
    shot = page.context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": 82})
    return base64.b64decode(shot["data"])


def main() -> None:
    """Build an index, serve it, and visit it."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        recipe = Path(folder) / "harvest.toml"
        recipe.write_text(RECIPE, encoding="utf-8")
        shown = [one for one in PASSAGES if one.metadata["topic"] != "records"]
        build_index(Path(folder) / "harvest", shown, recipe=recipe)
        settings = ServeSettings(port=0, log=False)
        app = create_app({"harvest": Path(folder) / "harvest"}, settings)
        server = Server(app, settings)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not app.state.services.ready:
            time.sleep(0.1)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--headless", "--no-sandbox"])
        page = browser.new_page()
        for name, width, height, scheme, path in PICTURES:
            (HERE / f"{name}.webp").write_bytes(take(page, server.address + path, width, height, scheme))
        browser.close()
        server.should_exit = True
        thread.join(20)


if __name__ == "__main__":
    main()
