"""Judges and rerankers from names."""

from importlib import metadata

import pytest

import thresher
from thresher.errors import ConfigError
from thresher.rerank.judges import JUDGES, judge_from_name
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.plans import PLANS, plan_from_name
from thresher.rerank.plans.plan import Answer, Placement
from thresher.rerank.servers import RerankServer


def test_a_server_is_named_by_its_dialect_and_rates_only():
    pytest.importorskip("httpx2", reason="needs the llm extra")
    reranker = thresher.Reranker.from_name("cohere:m", base_url="http://localhost:1", timeout=3.0, depth=20)
    assert isinstance(reranker.judge, RerankServer)
    assert (reranker.plan.name, reranker.depth) == ("pointwise", 20)
    assert "model=m" in reranker.judge.name
    reranker.close()


def test_a_language_model_gets_its_options_and_the_judge_its_own():
    pytest.importorskip("httpx2", reason="needs the llm extra")
    reranker = thresher.Reranker.from_name(
        "openai:tiny",
        base_url="http://localhost:1/v1",
        plan="setwise-heap",
        choice="generate",
        structured="json-schema",
    )
    assert isinstance(reranker.judge, ModelJudge)
    assert reranker.plan == plan_from_name("setwise-heap")
    assert reranker.judge.model.structured == "json-schema"
    assert "choice=generate" in reranker.judge.name


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("guess:m", {}, "unknown judge 'guess'"),
        ("cohere", {"base_url": "http://localhost:1"}, "write cohere:NAME"),
        ("cohere:m", {}, "needs the address"),
        ("openai:m", {}, "needs the address"),
        ("decisions:m", {}, "needs the address"),
        ("systemone:", {"base_url": "http://localhost:1"}, "has a name"),
        ("systemone:m", {"base_url": "http://localhost:1", "order": "logits"}, "has no option 'order'"),
        ("cohere:m", {"base_url": "http://localhost:1", "order": "logits"}, "has no option 'order'"),
        ("openai:m", {"base_url": "http://localhost:1", "tempreature": 1}, "has no option 'tempreature'"),
        ("cohere:m", {"base_url": "http://localhost:1", "plan": "guess"}, "unknown plan 'guess'"),
    ],
)
def test_what_a_name_or_option_lacks_is_said(name, options, message):
    pytest.importorskip("httpx2", reason="needs the llm extra")
    with pytest.raises(ConfigError, match=message):
        thresher.Reranker.from_name(name, **options)


class Installed:
    """A plan and a judge of another package."""

    name, comparisons_per_call, reads_text = "reversed", 1, False

    def __init__(self, argument="", *, device="auto", times: int = 1):
        self.argument, self.device, self.times = argument, device, times

    async def answer(self, query, candidates, comparisons, client):
        return [Answer(tuple((item,) for item in reversed(one.items))) for one in comparisons]

    def run(self, n, k, rng):
        yield from ()
        return Placement.of(reversed(range(n)) if self.times % 2 else range(n))


def test_installed_packages_add_judges_and_plans(monkeypatch):
    points = {
        "thresher.judges": metadata.EntryPoint("reversed", f"{__name__}:Installed", "thresher.judges"),
        "thresher.plans": metadata.EntryPoint("reverse", f"{__name__}:Installed", "thresher.plans"),
    }
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda self: Installed)
    monkeypatch.setattr("thresher.registry.entry_points", lambda group: [points[group]] if group in points else [])
    assert "reversed" in JUDGES
    assert "reverse" in PLANS
    judge = judge_from_name("reversed:x", device="cpu")
    assert (judge.argument, judge.device) == ("x", "cpu")
    ranking = thresher.Ranking(["a", "b", "c"])
    assert thresher.Reranker(judge, "single").rank("q", ranking).docnos == ["c", "b", "a"]
    assert thresher.Reranker(judge, "reverse:times=2").rank("q", ranking).docnos == ["a", "b", "c"]
