"""The search page in Chromium, used as a person would use it, against a server on a port."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="drives the browser")

from playwright import sync_api

from thresher import build_index
from thresher.certify import certify
from thresher.index.filters import Where
from thresher.records import Passage, Qrels, Query
from thresher.serve.keys import Caller, key_of

sys.path.insert(0, str(Path(__file__).parent))
from page_corpus import PASSAGES, RECIPE

sys.path.pop(0)

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)

expect = sync_api.expect
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PART = Caller("reader", where=Where.parse("topic = harvest"))
SOME = ["color-contrast", "target-size", "scrollable-region-focusable"]
"""Rules of axe that depend on the scheme and the width; the others need one look."""
QUESTION = "what separates grain from chaff"


@pytest.fixture(scope="module")
def harvest(tmp_path_factory):
    """An index that is reranked and pruned by word overlap, without a model."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    build_index(folder / "harvest", PASSAGES, recipe=folder / "recipe.toml")
    return folder / "harvest"


@pytest.fixture(scope="module")
def made(harvest, serving):
    """A server over it."""
    with serving({"harvest": harvest}) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, made):
    """`visit(path)` opens a page; at the end, none has said anything on its console that was not expected."""
    contexts, said = [], []

    def call(path="/", *, url=None, expected="", width=1280, **settings):
        base = url or made.url
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, permissions=["clipboard-read", "clipboard-write"], **settings
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda m: said.append(m.text) if not (expected and expected in m.text) else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: said.append(f"outside: {r.url}") if not r.url.startswith(base) else None)
        page.goto(base + path)
        return page

    yield call
    for context in contexts:
        context.close()
    assert said == []


def asked(page):
    """Wait until an answer is complete."""
    expect(page.locator("article").first).to_be_visible()
    expect(page.locator("body.busy")).to_have_count(0)
    expect(page.locator(".summary strong").first).to_be_visible()
    return page.locator("section[data-set=a] article")


def clipboard(page):
    return page.evaluate("navigator.clipboard.readText()")


def test_ask_bring_back_and_copy(visit):
    page = visit()
    expect(page.locator(".welcome")).to_contain_text("12 passages in harvest")
    page.get_by_role("searchbox").fill(QUESTION)
    cards = asked(page)
    expect(cards).to_have_count(5)
    expect(page.locator("#live")).to_contain_text("5 passages in")
    first = cards.first
    left = first.locator(".dropped").first
    sentence = left.text_content().removeprefix("Bring back: ").strip()
    page.get_by_role("button", name="Copy as prompt").click()
    expect(page.locator(".toast")).to_have_text("Prompt with 5 passages copied")
    text = clipboard(page)
    assert f"Question: {QUESTION}" in text
    assert re.findall(r"^\[(\d)\] ", text, re.M) == ["1", "2", "3", "4", "5"]
    assert "https://example.org/winnowing" in text
    assert sentence not in text
    at = left.evaluate("e => e.getClientRects()[0].toJSON()")  # a run may begin in the middle of a line
    page.mouse.click(at["x"] + 5, at["y"] + 5)
    expect(left).to_have_class("dropped back")
    page.get_by_role("button", name="Copy as prompt").click()
    page.wait_for_timeout(50)
    assert sentence in clipboard(page)
    names = first.locator(".scores dt").all_inner_texts()
    assert names == ["search", "relevance", "rerank"]
    assert page.locator(".waterfall th").all_inner_texts() == ["search", "rerank", "select"]


def test_filter_and_link(visit, made):
    page = visit(f"/?q={QUESTION.replace(' ', '+')}&k=12", expected="400")
    asked(page)
    page.get_by_role("checkbox", name="machines 2").first.check()
    expect(page.locator("article")).to_have_count(2)
    expect(page.get_by_role("checkbox", name="harvest")).to_be_visible()  # other values of the field stay
    expect(page.get_by_role("checkbox", name="machines 2").first).to_be_focused()
    page.get_by_label("year from").fill("1800")
    page.get_by_label("year from").press("Enter")
    expect(page.locator("article")).to_have_count(1)
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator(".toast")).to_have_text("Link copied")
    link = clipboard(page)
    assert link.startswith(made.url)
    other = visit(link.removeprefix(made.url))
    expect(asked(other)).to_have_count(1)
    expect(other.locator("h3")).to_have_text("The combine harvester")
    page.go_back()
    expect(page.locator("article")).to_have_count(2)
    page.get_by_label("Filter", exact=True).fill("year < 1700 or tags any (<b>bold</b>)")
    page.get_by_label("Filter", exact=True).press("Enter")
    expect(page.get_by_role("heading", name="This cannot be asked")).to_be_visible()


def test_two_settings_side_by_side(visit):
    page = visit(f"/?q={QUESTION.replace(' ', '+')}")
    asked(page)
    page.get_by_label("Compare with").select_option("without context pruning")
    expect(page.locator("#difference")).to_contain_text("5 of 5 passages are in both answers")
    expect(page.locator("#difference")).to_contain_text("Without context pruning: ")
    two = page.locator("section[data-set=b]")
    expect(two).to_have_attribute("aria-label", "Without context pruning")
    expect(two.locator(".dropped")).to_have_count(0)
    expect(two.locator(".waterfall tr.idle")).to_have_text("selectleft out")
    assert "versus=select" in page.url
    page.locator("section[data-set=a] article").first.focus()
    page.keyboard.press("ArrowRight")
    expect(two.locator("article").first).to_be_focused()


def test_keyboard_only(visit):
    page = visit()
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("grain chaff")
    page.keyboard.press("Enter")
    cards = asked(page)
    page.keyboard.press("ArrowDown")
    expect(cards.nth(0)).to_be_focused()
    assert cards.nth(0).evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("ArrowDown")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    left = cards.nth(0).locator(".dropped").first
    page.keyboard.press("Enter")
    expect(left).to_have_class("dropped back")
    expect(cards.nth(0).get_by_role("button", name="Leave out again", exact=True)).to_be_visible()
    page.keyboard.press("Enter")
    expect(left).to_have_class("dropped")
    left.focus()
    page.keyboard.press("Space")
    expect(left).to_have_class("dropped back")
    expect(left).to_be_focused()
    page.keyboard.press("Escape")
    expect(cards.nth(0)).to_be_focused()
    page.keyboard.press("c")
    expect(page.locator(".toast")).to_have_text("Passage 1 copied")
    assert clipboard(page).startswith("[1] ")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("searchbox")).to_have_value("")
    expect(page.locator(".welcome")).to_be_visible()


def test_texts_stay_text_and_run_from_their_own_side(visit):
    page = visit("/?q=grain+chaff+markup&k=12")
    asked(page)
    hostile = page.locator("article", has_text="hostile-1")
    expect(hostile.locator("h3")).to_contain_text("<script>document.title='owned'</script>")
    expect(hostile.locator(".text")).to_contain_text("<img src=x onerror=")
    assert hostile.locator("img, script, b, a").count() == 0
    assert page.title() == "grain chaff markup · thresher"
    hebrew = page.locator("article", has_text="hebrew-1").locator(".text")
    assert hebrew.evaluate("e => getComputedStyle(e).direction") == "rtl"
    emoji = page.locator("article", has_text="emoji-1").locator(".text")  # offsets are code points
    (whole,) = (one.text for one in PASSAGES if one.docno == "emoji-1")
    assert emoji.text_content().replace("Bring back: ", "") == whole


def test_a_question_that_is_overtaken_is_given_up(visit):
    page = visit()
    given_up = []
    page.on("requestfailed", lambda request: given_up.append((request.post_data_json["query"], request.failure)))
    page.route("**/ask", lambda route: None if route.request.post_data_json["query"] == "first" else route.continue_())
    box = page.get_by_role("searchbox")
    with page.expect_request("**/ask"):
        box.fill("first")
    expect(page.locator("body.busy")).to_have_count(1)
    box.fill("winnowing")
    asked(page)
    expect(page.locator("h3").first).to_have_text("Winnowing")
    assert given_up[0] == ("first", "net::ERR_ABORTED")


def test_the_key_is_asked_for_and_kept_for_the_tab(visit, harvest, serving):
    with serving({"harvest": harvest}, keys=(key_of("open-sesame", PART),)) as made:
        page = visit("/?q=grain", url=made.url, expected="status of 40")
        dialog = page.get_by_role("dialog", name="This server asks for a key")
        dialog.get_by_label("Key").fill("wrong")
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_have_text("The server did not accept this key.")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Enter the key").click()
        dialog.get_by_label("Key").fill("open-sesame")
        dialog.get_by_role("button", name="Use the key").click()
        asked(page)
        kept = page.evaluate("[...Object.values(sessionStorage), localStorage.length, document.cookie]")
        assert kept == ["open-sesame", 0, ""]
        assert "sesame" not in page.url
        page.reload()
        asked(page)
        page.get_by_role("link", name="Index").click()
        expect(page.locator("main")).to_contain_text("This key sees a part of the index.")
        there = sum(one.metadata["topic"] == "harvest" for one in PASSAGES)
        expect(page.locator(".figures dd").first).to_have_text(str(there))


@pytest.mark.parametrize(("status", "title"), [(429, "The server is busy"), (503, "The server is not ready")])
def test_it_waits_for_a_server_that_is_busy(visit, status, title):
    page = visit(expected=str(status))
    body = '{"error": {"type": "x", "message": "the queue is full"}}'
    wait = "1" if status == 429 else "50"
    page.route("**/ask", lambda r: r.fulfill(status=status, headers={"retry-after": wait}, body=body), times=1)
    page.get_by_role("searchbox").fill("grain")
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.locator("#live")).to_have_text("the queue is full")
    if status == 503:
        page.get_by_role("button", name="Try now").click()
    asked(page)  # after 429 it asks again by itself


def test_a_field_that_comes_with_a_commit_is_a_filter_at_the_next_question(visit, harvest, serving, tmp_path):
    shutil.copytree(harvest, tmp_path / "harvest")
    with serving({"harvest": tmp_path / "harvest"}) as server:
        server.wait_until_ready()
        page = visit("/?q=grain", url=server.url)
        asked(page)
        expect(page.get_by_role("group", name="region")).to_have_count(0)
        hosted = server.services.hosted["harvest"]
        with hosted.index.writer() as writer:
            writer.add(
                [Passage(f"new{n}", "The chaff of the north is light.", "", {"region": "north"}) for n in (1, 2)]
            )
        hosted.refresh()
        page.get_by_role("searchbox").fill("light chaff of the north")
        expect(page.get_by_role("group", name="region")).to_contain_text("north")


def test_the_page_of_the_index(visit, harvest):
    page = visit("/page/about.html")
    expect(page.get_by_role("heading", name="harvest")).to_be_visible()
    expect(page.locator(".figures")).to_contain_text("12")
    expect(page.get_by_role("img", name="Quality of 12 passages")).to_be_visible()
    expect(page.locator(".examples .pruned").first).to_have_text("pruned for its score")
    expect(page.get_by_role("heading", name="Commits")).to_be_visible()
    assert "object" not in page.locator("main").inner_text()
    certificate = page.locator("section", has=page.get_by_role("heading", name="Certificate"))
    expect(certificate).to_have_count(0)
    (harvest / "certificate.json").write_text("{")
    page.reload()
    expect(certificate).to_contain_text("the certificate cannot be read")
    (harvest / "certificate.json").unlink()
    page.get_by_role("link", name="Search", exact=True).click()
    expect(page.get_by_role("searchbox")).to_be_focused()


@pytest.fixture
def certified(harvest):
    """What was claimed of the index: something is shown, something is not."""
    queries = [Query(f"q{n}", one.title) for n, one in enumerate(PASSAGES)]
    qrels = Qrels({query.qid: {one.docno: 1} for query, one in zip(queries, PASSAGES, strict=True)})
    made = certify(harvest, harvest, queries, qrels, margin=0.02, pipelines=["lexical"], fractions=[0.75],
                   scores="length")  # fmt: skip
    made.write(harvest)
    yield made
    (harvest / "certificate.json").unlink()


def test_the_page_says_what_is_certified_and_what_is_not(visit, harvest, certified):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="carries axe-core").Axe()
    page = visit("/page/about.html", width=400, bypass_csp=True)
    part = page.locator("section", has=page.get_by_role("heading", name="Certificate"))
    expect(part.locator(".verdict")).to_contain_text("harvest")
    assert "harvest/" not in part.inner_text()
    part.get_by_text("Every claim that was tested").click()
    rows = part.get_by_role("region", name="Every claim", exact=True).locator("tbody tr")
    expect(rows).to_have_count(len(certified.claims))
    assert [row.split("\t")[-1] for row in rows.all_inner_texts()] == [
        "yes" if one.proven else "no" for one in certified.claims
    ]
    shares = part.get_by_role("region", name="Largest share")
    expect(shares).to_contain_text("75%")
    assert not axe.run(page).response["violations"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    replace(certified, system=replace(certified.system, build="other")).write(harvest)
    page.reload()
    expect(part.locator(".difference")).to_contain_text("of another index")


def test_the_tiers_that_are_searched_are_chosen_for_the_server(visit):
    page = visit("/?q=grain+chaff&k=12")
    expect(asked(page).filter(has_text="tier 2")).not_to_have_count(0)
    with page.expect_request("**/ask") as sent:
        page.get_by_role("group", name="Tiers").get_by_role("radio", name="the first only").check()
    assert sent.value.post_data_json["tiers"] == "first"
    expect(page.locator("article", has_text="tier 2")).to_have_count(0)
    expect(asked(page).first).to_contain_text("tier 1")
    expect(page.get_by_role("radio", name="the first only")).to_be_focused()
    assert "tiers=first" in page.url


def test_passages_are_shown_where_counts_are_refused(visit):
    page = visit(expected="status of 503")
    page.route("**/facets", lambda r: r.fulfill(status=503, body="{}"))
    page.get_by_role("searchbox").fill("grain")
    asked(page)
    expect(page.locator("#facets fieldset")).to_have_count(1)  # the tiers of the passages need no counts


def test_nothing_found(visit):
    page = visit("/?q=zyzzyva")
    expect(page.get_by_role("heading", name="No passage matches")).to_be_visible()
    expect(page.locator("#live")).to_have_text("No passage matches")
    page.goto(page.url.replace("zyzzyva", "millwright&where=year+%3E+2100"))
    page.get_by_role("button", name="Remove the filters").click()
    expect(asked(page)).to_have_count(1)


def spoken(page):
    """What the browser tells a screen reader: role, name and states of each node, in reading order."""
    session = page.context.new_cdp_session(page)
    found = []
    for node in session.send("Accessibility.getFullAXTree")["nodes"]:
        if not node["ignored"]:
            states = {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
            found.append((node["role"]["value"], node.get("name", {}).get("value", "").strip(), states))
    session.detach()
    return found


def names_of(tree, role):
    return [name for kind, name, _ in tree if kind == role]


def test_a_screen_reader_is_told_where_it_is_and_what_arrives(visit):
    page = visit()
    page.locator(".welcome").wait_for()
    tree = spoken(page)
    assert [name for _, name, states in tree if states.get("focused")][-1] == "Question or keywords"
    assert {"banner", "search", "navigation", "main"} <= {role for role, _, _ in tree}
    page.keyboard.type(QUESTION)
    asked(page)
    expect(page.locator("#live")).to_contain_text("5 passages in")
    tree = spoken(page)
    assert [states["live"] for role, _, states in tree if role == "status"] == ["polite"]
    assert names_of(tree, "article")[0].startswith("1 ")
    assert len(names_of(tree, "article")) == 5
    assert any(re.fullmatch(r"harvest \d passages", name) for name in names_of(tree, "checkbox"))
    assert {"Tiers that are searched", "topic"} <= {*names_of(tree, "group")}
    assert all(name for role, name, _ in tree if role in {"button", "link", "checkbox", "radio", "combobox", "textbox"})
    page.locator(".dropped").first.focus()
    page.keyboard.press("Enter")
    held = [name for role, name, states in spoken(page) if role == "button" and states.get("focused")]
    assert [name.split(":")[0] for name in held] == ["Leave out again"]


def test_a_screen_reader_is_told_what_differs(visit):
    page = visit(f"/?q={QUESTION.replace(' ', '+')}&versus=select")
    expect(page.locator("#live")).to_contain_text("are in both answers")
    tree = spoken(page)
    assert {"All stages", "Without context pruning"} <= {*names_of(tree, "region")}
    page.set_viewport_size({"width": 400, "height": 900})
    tree = spoken(page)
    assert "Without context pruning" not in names_of(tree, "region")
    pressed = {name: states["pressed"] for _, name, states in tree if "pressed" in states}
    assert pressed == {"All stages": "true", "Without context pruning": "false"}


def test_it_says_that_it_waits_and_finds_the_server_again(visit):
    page = visit(expected="ERR_FAILED")
    held = []
    page.route("**/ask", lambda route: held.append(route), times=1)  # noqa: PLW0108 - playwright marks it
    page.get_by_role("searchbox").fill("grain")
    expect(page.locator(".pending")).to_have_text("Searching …")
    expect(page.locator("#live")).to_have_text("Searching …")
    held[0].abort()
    expect(page.get_by_role("heading", name="No connection")).to_be_visible()
    page.get_by_role("button", name="Try now").click()
    asked(page)
    expect(page.locator(".pending")).to_have_count(0)


def test_what_is_typed_before_the_server_has_answered_is_asked(visit):
    page = visit()
    expect(page.locator(".welcome")).to_be_visible()
    held = []
    page.route("**/info", lambda route: held.append(route), times=1)  # noqa: PLW0108 - playwright marks it
    with page.expect_request("**/info"):
        page.reload()
    page.get_by_role("searchbox").fill("grain")
    held[0].continue_()
    asked(page)
    assert page.url.endswith("?q=grain")


def test_a_filter_chosen_right_after_typing_keeps_what_was_typed(visit):
    page = visit(f"/?q={QUESTION.replace(' ', '+')}")
    asked(page)
    page.evaluate(
        """() => {
        const input = document.getElementById("query");
        input.value = "grain";
        input.dispatchEvent(new Event("input"));
        document.querySelector("#facets input[type=checkbox]").click();
    }"""
    )
    expect(page).to_have_url(re.compile(r"q=grain"))
    expect(page.locator("#facets input[type=checkbox]:checked")).to_have_count(1)
    asked(page)


def test_what_had_the_focus_and_goes_hands_it_on(visit):
    page = visit(f"/?q={QUESTION.replace(' ', '+')}")
    asked(page)
    page.locator("article").last.locator(".metadata button").first.click()
    expect(page.locator("#facets input[type=checkbox]:checked")).to_have_count(1)
    asked(page)
    expect(page.locator("article").first).to_be_focused()
    page.goto(page.url.split("?")[0] + "?q=millwright&where=year+%3E+2100")
    page.get_by_role("button", name="Remove the filters").press("Enter")
    asked(page)
    assert page.evaluate("document.activeElement.id") == "results"


@pytest.mark.parametrize("path", ["/", "/?q=grain+chaff&versus=rerank", "/page/about.html"])
def test_axe_finds_no_fault_and_nothing_is_cut_off(visit, path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="carries axe-core").Axe()
    page = visit(path, width=400, bypass_csp=True, reduced_motion="reduce")
    page.locator("#live:not(:empty)").wait_for(state="attached") if "?" in path or "about" in path else None
    for scheme, width, rules in (("light", 400, None), ("dark", 1600, SOME)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
        for broken in axe.run(page, options=options).response["violations"]:
            where = [node["html"] for node in broken["nodes"][:3]]
            pytest.fail(f"{scheme}, {width} pixels: {broken['impact']}: {broken['help']}: {where}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
