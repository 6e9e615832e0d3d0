"""Take the pictures of a report in its guide: `python docs/images/take_report.py` (a printed page needs pypdfium2).

The runs are those of a small index, and of the same index without its shortest passages; a query is a title, and the
judgments are made for it: the passage of that title has grade 3, the others of its topic grade 1.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

import thresher
from thresher import Query, build_index
from thresher.certify.fractions import kept
from thresher.evaluate.front import Point
from thresher.ranking import Run
from thresher.records import Qrels
from thresher.report.runs import Beside, Costs, runs_report

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "integration" / "serve"))
from page_corpus import PASSAGES

HERE = Path(__file__).parent
POINTS = [
    Point("BM25", 1.2, 0.48), Point("sparse", 3.1, 0.66), Point("sparse + vectors", 6.4, 0.70),
    Point("reranked", 180.0, 0.74), Point("reranked twice", 420.0, 0.735),
]  # fmt: skip
PICTURES = [  # name, width, height, scheme, heading to begin at
    ("report", 1280, 900, "light", ""),
    ("report-topics", 1280, 760, "light", "Topics that changed most"),
    ("report-narrow", 400, 800, "dark", "Effectiveness against cost"),
]


def report(folder: Path) -> str:
    """The page of two runs."""
    shown = [one for one in PASSAGES if one.metadata["topic"] != "records"]
    build_index(folder / "harvest", shown, "bm25")
    queries = [Query(one.docno, f"{one.title} {one.metadata['topic']}") for one in shown]
    grades = {
        one.docno: {o.docno: 3 if o is one else int(o.metadata["topic"] == one.metadata["topic"]) for o in shown}
        for one in shown
    }
    for at, judged in enumerate(grades.values()):
        del judged[shown[(at + 3) % len(shown)].docno]  # some passage is unjudged
    with thresher.Index.open(folder / "harvest") as index:
        mask = kept(index, "length", 0.2)
        runs = {
            "full": Run({q.qid: index.search(q, 10) for q in queries}),
            "pruned": Run({q.qid: index.search(q, 10, allow=mask) for q in queries}),
        }
    texts = {one.docno: (one.title, one.text) for one in shown}
    costs = Costs(POINTS, "milliseconds", "nDCG@10")
    beside = Beside(texts.get, {q.qid: q.text for q in queries}, costs)
    return runs_report(runs, Qrels(grades), "nDCG@3 AP", margin=0.02, topics=4, beside=beside, title="Full and pruned")


def take(page: Page, width: int, height: int, scheme: str, heading: str) -> bytes:
    """One picture, as WebP."""
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.evaluate("window.scrollTo(0, 0)")
    if heading:
        page.get_by_role("heading", name=heading).evaluate("one => one.scrollIntoView()")
    shot = page.context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": 82})
    return base64.b64decode(shot["data"])


def printed(page: Page) -> bytes:
    """The second printed page."""
    import pypdfium2

    document = pypdfium2.PdfDocument(
        page.pdf(format="A4", margin=dict.fromkeys(("top", "bottom", "left", "right"), "15mm"))
    )
    stream = io.BytesIO()
    document[1].render(scale=1.1).to_pil().save(stream, "WEBP", quality=82)
    return stream.getvalue()


def main() -> None:
    """Write the report and visit it."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "report.html"
        file.write_text(report(Path(folder)), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--headless", "--no-sandbox"])
        page = browser.new_page()
        page.goto(file.as_uri())
        for name, width, height, scheme, heading in PICTURES:
            (HERE / f"{name}.webp").write_bytes(take(page, width, height, scheme, heading))
        (HERE / "report-print.webp").write_bytes(printed(page))
        browser.close()


if __name__ == "__main__":
    main()
