"""Reports in Chromium: nothing is loaded, nothing runs, axe finds no fault, and texts stay texts."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

pytest.importorskip("scipy", reason="the eval extra is not installed")
pytest.importorskip("playwright.sync_api", reason="drives the browser")

from playwright import sync_api

from thresher import build_index
from thresher.certify.certifying import certify_runs
from thresher.cli import _register, app
from thresher.records import Passage

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)

HOSTILE = (
    "</p></main></body><script>document.title = 'taken'</script><img src=http://outside.invalid/x onerror=alert(1)>"
    "<style>body{display:none}</style>&lt;b&gt; \u202eback\u202c \u05e9\u05dc\u05d5\u05dd \x07"
)
SOME = ["color-contrast", "scrollable-region-focusable"]
"""Rules of axe that depend on the scheme and the width; the others need one look."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report of two runs with hostile texts, names and queries, and one of an index with a certificate."""
    folder = tmp_path_factory.mktemp("report")
    docs = [Passage(f"d{n}", f"Passage {n} on grain and chaff.", f"Title {n}") for n in range(8)]
    docs[0] = Passage("d0", HOSTILE, "<script>alert(1)</script>")
    docs[1] = Passage("d1", "x<b>y " * 180_000)
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"docno": p.docno, "title": p.title, "text": p.text}) + "\n" for p in docs)
    )
    topics = range(12)
    (folder / "qrels").write_text("".join(f"q{i} 0 d{d} {g}\n" for i in topics for d, g in ((0, 2), (2, 1), (3, 0))))
    (folder / "queries.tsv").write_text(
        "".join(f"q{i}\tgrain {'<i>' + HOSTILE[:40] if i == 1 else ''}\n" for i in topics)
    )
    ranked = {"full": "0123", "a & <b>": "4523"}
    for name, docnos in ranked.items():
        rows = [
            f"q{i} Q0 d{d} 0 {9 - at} s\n"
            for i in topics
            for at, d in enumerate(ranked["full"] if i % 4 != 1 else docnos)
        ]
        (folder / f"{name}.run").write_text("".join(rows))
    (folder / "costs.csv").write_text("name,ms,nDCG@10\n<b>one</b>,1,.5\ntwo,90,.6\nthree,100,.55\n")
    build_index(folder / "index", docs[2:], recipe="bm25")
    certificate = certify_runs({"run": folder / "a & <b>.run"}, folder / "full.run", folder / "qrels", margin=0.02)
    certificate.save(folder / "certificate.json")
    certificate.write(folder / "index")
    call("report", folder / "full.run", folder / "a & <b>.run", "--qrels", folder / "qrels", "--margin", ".02",
         "--texts", folder / "corpus.jsonl", "--queries", folder / "queries.tsv", "--costs", folder / "costs.csv",
         "--cost", "ms", "--name", "name", "--certificate", folder / "certificate.json",
         "-o", folder / "runs.html")  # fmt: skip
    call("report", folder / "index", "--scores", "length", "-o", folder / "about.html")
    return folder


def call(*arguments, code=0):
    _register()
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, made):
    """`visit(name)` opens a page; at the end, none has said anything or asked for anything but itself."""
    said, contexts = [], []

    def call(name, **settings):
        context = chromium.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        url = (made / name).as_uri()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: said.append(request.url) if request.url != url else None)
        page.goto(url)
        return page

    yield call
    for context in contexts:
        context.close()
    assert said == []


def test_texts_are_shown_as_they_are_and_nothing_of_them_runs(visit):
    page = visit("runs.html")
    assert page.title() == "Runs compared"
    assert page.locator("script, img, iframe, link").count() == 0
    assert page.locator("style").count() == 1
    shown = page.locator("main").inner_text()
    assert "document.title = 'taken'" in shown and "onerror=alert(1)" in shown and "&lt;b&gt;" in shown
    assert "\u202e" not in shown and "\x07" not in shown
    assert "a & <b> against full" in shown
    assert "1,079,600 more characters" in shown


def test_it_says_which_passages_went_and_which_came_and_how_they_are_judged(visit):
    page = visit("runs.html")
    topic = page.locator("article").first
    gone, new = topic.locator(".side").all()
    assert [re.split(r"\s+", one) for one in gone.locator(".facts").all_inner_texts()] == [
        ["rank", "1", "grade", "2", "not", "in", "a", "&", "<b>", "d0"],
        ["rank", "2", "unjudged", "not", "in", "a", "&", "<b>", "d1"],
    ]
    assert new.locator(".unjudged .docno").all_inner_texts() == ["d4", "d5"]
    assert page.locator("article").count() == 3
    page.locator("summary").first.click()
    differences = page.locator("details tbody tr").all_inner_texts()
    assert len(differences) == 12 and differences[0].startswith("q")


def test_the_page_of_an_index_shows_counts_quality_and_that_the_certificate_is_of_another(visit):
    page = visit("about.html")
    headings = page.locator("h2").all_inner_texts()
    assert headings == ["Passages", "Certificate", "Quality", "Cost of the build", "All facts of the index"]
    assert "Not shown" in page.locator(".verdict").first.inner_text()
    assert page.locator("section", has_text="Quality").locator("tbody tr").count() >= 20


@pytest.mark.parametrize("name", ["runs.html", "about.html"])
def test_axe_finds_no_fault_and_nothing_is_cut_off(visit, name):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="carries axe-core").Axe()
    page = visit(name, bypass_csp=True)
    for scheme, width, rules in (("light", 400, None), ("dark", 1280, SOME)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
        broken = axe.run(page, options=options).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in broken] == [], (scheme, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_in_print_folded_tables_are_open_and_paper_is_white(visit):
    page = visit("runs.html", color_scheme="dark")
    cell = page.locator("details tbody tr").first
    assert not cell.is_visible()
    page.emulate_media(media="print")
    assert cell.is_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"


def test_the_page_of_an_experiment_shows_its_figures_and_its_worst_topics(made, visit):
    (made / "experiment.html").write_text(experiment_page())
    page = visit("experiment.html")
    assert page.locator("h1").inner_text() == "BM25 <on> a collection"
    assert page.locator("h2").all_inner_texts() == ["Results", "Topics, the worst first", "Plan"]
    assert page.locator("section").nth(1).locator("tbody th").all_inner_texts() == ["q2", "q1"]


def experiment_page():
    from thresher.experiment import Experiment, ExperimentReport
    from thresher.report.about_index import experiment_report

    experiment = Experiment(
        description="BM25 <on> a collection", collection="scifact", measures=["AP"],
        published={"AP": 0.4, "source": "elsewhere"},
    )  # fmt: skip
    return experiment_report(
        ExperimentReport(experiment, {"k": 10}, {"AP": 0.5}, {"AP": {"q1": 0.8, "q2": 0.2}}, None, 2, 1.0)
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("full.run", "-o", "x.html"), "neither an index nor an experiment"),
        (("full.run", "a & <b>.run", "-o", "x.html"), "runs need --qrels"),
        (("full.run", "--qrels", "qrels", "-o", "x.html"), "there is one run"),
        (("full.run", "--qrels", "qrels", "-o", "full.run"), "read by this command"),
        (("full.run", "a & <b>.run", "--qrels", "qrels", "--certificate", "nothing", "-o", "x.html"), "no certificate"),
    ],
)
def test_a_wrong_command_line_exits_with_2(made, monkeypatch, arguments, says):
    monkeypatch.chdir(made)
    told = " ".join(call("report", *arguments, code=2).output.replace("│", " ").split())
    assert says in told
    assert not (made / "x.html").exists()
