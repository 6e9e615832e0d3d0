"""Live queries of a pruned index are also asked on its baseline, in part: what is noticed, kept and fallen back to."""

import json
import math
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from thresher import Index, Passage, Pipeline, build_index
from thresher.certify import Certificate, Shadow
from thresher.certify.running import Running
from thresher.certify.shadow_report import ShadowReport
from thresher.cli import main
from thresher.errors import BusyArtifactError, DamagedArtifactError, InputError
from thresher.evaluate.power import queries_to_notice
from thresher.pipeline import SearchStage

WORDS = [f"{a}{b}" for a in ("grain", "chaff", "field", "barn", "mill", "plough") for b in "abcdefghij"]
MARGIN = 0.05


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An index of 300 passages of a few of 60 words; half of them belong to the team red. Not to be changed."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("shadow") / "whole"
    passages = [
        Passage(f"d{n}", " ".join(rng.choice(WORDS, 12)), metadata={"team": ("red", "blue")[n % 2]}) for n in range(300)
    ]
    build_index(path, passages, recipe="bm25")
    return path


@pytest.fixture
def pruned(whole, tmp_path):
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "pruned")


def pipeline(path):
    index = path if isinstance(path, Index) else Index.open(path)
    return Pipeline([SearchStage(index, depth=5)], k=1, texts=index)


def delete(path, numbers):
    with Index.open(path) as index, index.writer() as writer:
        writer.delete(docnos=[f"d{n}" for n in numbers])
        writer.commit()


def queries(n, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 2)) for _ in range(n)]


def ask_all(shadow, asked):
    for number, query in enumerate(asked):
        shadow.ask(query)
        if number % 40 == 39:
            shadow.flush()
    shadow.flush()


def test_a_system_that_is_its_own_baseline_is_certified_and_never_lost(whole):
    with Shadow(pipeline(whole), pipeline(whole), margin=MARGIN, share=0.1) as shadow:
        outcomes = set()
        for part in range(20):
            ask_all(shadow, queries(100, part))
            outcomes.add(shadow.report().outcome)
        report = shadow.report()
    assert outcomes == {"undecided", "certified"}
    assert (report.outcome, report.mean, report.dropped, report.failed, report.more) == ("certified", 0.0, 0, 0, 0)
    assert report.sampled == pytest.approx(200, abs=50)
    assert report.low == 0.0 < report.high < MARGIN
    assert str(report).startswith(f"certified since {report.since}: mean loss 0.0000")


def test_the_queries_still_needed_are_those_that_it_takes(whole):
    with Shadow(pipeline(whole), pipeline(whole), margin=MARGIN, share=1.0) as shadow:
        ask_all(shadow, queries(20))
        report = shadow.report()
        assert report.outcome == "undecided"
        assert f"About {report.more} more sampled queries ({report.more_live} live ones)" in str(report)
        ask_all(shadow, queries(report.more - 1))
        assert shadow.report().outcome == "undecided"
        ask_all(shadow, queries(1))
        assert shadow.report().outcome == "certified"


def test_deleting_passages_after_500_queries_is_noticed_as_soon_as_its_power_says(whole, pruned):
    index = Index.open(pruned)
    with Shadow(pipeline(index), pipeline(whole), margin=MARGIN, share=1.0) as shadow:
        ask_all(shadow, queries(500))
        good = shadow.report()
        assert good.outcome == "certified"
        delete(pruned, range(0, 300, 5))
        index.refresh()
        anew = shadow.report()
        assert (anew.outcome, anew.sampled, anew.system.commit) == ("undecided", 0, 2)
        assert [(one.outcome, one.sampled, one.system) for one in anew.history] == [("certified", 500, 1)]
        assert anew.history[0].why == "the system went from commit 1 to 2 (60 passages changed)"
        ask_all(shadow, queries(60, 1))
        report = shadow.report()
        needed = queries_to_notice([0.0], report.mean, MARGIN, after=0, depth=0.5, low=0.0, power=0.9, runs=200)
        assert report.outcome == "lost"
        assert report.lost_at <= needed <= 60


def test_a_drift_of_what_is_asked_after_500_queries_is_noticed_as_soon_as_its_power_says(whole, pruned):
    """The passages of ten words are gone from the start, and users begin to ask for them."""
    mills = {word for word in WORDS if word.startswith("mill")}
    with Index.open(pruned) as index:
        gone = [one.docno for one in index.passages_at(range(300)) if len(mills.intersection(one.text.split())) > 2]
    delete(pruned, [docno[1:] for docno in gone])
    others = [word for word in WORDS if not word.startswith("mill")]
    rng = np.random.default_rng(3)
    losses = []

    def loss(_, mine, theirs):
        """Whether the baseline's first passage is missing."""
        losses.append(float(theirs.ranking.docnos[0] not in mine.ranking.docnos))
        return losses[-1]

    margin = 0.3
    with Shadow(pipeline(pruned), pipeline(whole), margin=margin, share=1.0, measure=loss) as shadow:
        ask_all(shadow, [" ".join(rng.choice(others, 2)) for _ in range(500)])
        assert shadow.report().outcome == "certified"
        ask_all(shadow, [" ".join(rng.choice(sorted(mills), 2)) for _ in range(150)])
        report = shadow.report()
    good, drift = losses[:500], np.mean(losses[500:]) - np.mean(losses[:500])
    needed = queries_to_notice(good, drift, margin, after=500, depth=1.0, low=0.0, power=0.9, runs=200)
    assert report.outcome == "lost"
    assert 500 < report.lost_at <= 500 + needed < 650


def test_the_choice_depends_on_the_number_of_a_query_and_the_seed_alone(whole):
    def chosen(seed, asked):
        found = []
        with Shadow(
            pipeline(whole), pipeline(whole), margin=MARGIN, share=0.2, seed=seed, measure=lambda q, *_: found.append(q)
        ) as shadow:
            ask_all(shadow, asked)
        return found

    numbered = [f"graina {n}" for n in range(100)]
    first = chosen(1, numbered)
    assert first == chosen(1, numbered)
    assert [q.split()[-1] for q in chosen(1, [f"chaffb {n}" for n in range(100)])] == [q.split()[-1] for q in first]
    assert first != chosen(2, numbered)
    assert len(first) == pytest.approx(20, abs=12)
    assert len(chosen(1, ["graina"] * 100)) == len(first)


def test_what_fails_or_does_not_fit_is_counted_and_no_concern_of_the_caller(whole):
    class Broken(SearchStage):
        def run(self, state):
            raise OSError("no such disk")

    index = Index.open(whole)
    broken = Pipeline([Broken(index)], texts=index)
    with Shadow(pipeline(whole), broken, margin=MARGIN, share=1.0) as shadow:
        assert len(shadow.ask("graina chaffb").passages) == 1
        shadow.flush()
        assert shadow.report().failed == 1
    going = threading.Event()
    with Shadow(
        pipeline(whole), pipeline(whole), margin=MARGIN, share=1.0, measure=lambda *_: going.wait(20) * 0.0, room=4
    ) as shadow:
        for query in queries(20):
            shadow.ask(query)
        going.set()
        shadow.flush()
        report = shadow.report()
    assert report.sampled + report.dropped == 20
    assert 4 <= report.sampled <= 5
    assert "15 of 20 chosen queries were not compared" in str(report) or "16 of 20" in str(report)
    with Shadow(pipeline(whole), pipeline(whole), margin=MARGIN, share=1.0, measure=lambda *_: 1.5) as shadow:
        shadow.ask("graina")
        shadow.flush()
        assert (shadow.report().failed, shadow.report().sampled) == (1, 0)


def test_it_falls_back_to_the_baseline_until_it_is_reset(whole, pruned, tmp_path):
    delete(pruned, range(0, 300, 2))
    file = tmp_path / "state.json"
    index = Index.open(pruned)

    def shadow(policy):
        settings = {"margin": MARGIN, "share": 1.0, "policy": policy, "state": file}
        return Shadow(pipeline(index), pipeline(whole), **settings)

    query = "graina chaffb"
    mine, theirs = pipeline(pruned).ask(query), pipeline(whole).ask(query)
    assert mine.ranking.docnos != theirs.ranking.docnos
    with shadow("fall-back") as watched:
        assert watched.ask(query).ranking.docnos == mine.ranking.docnos
        ask_all(watched, queries(60))
        assert (watched.falls_back, watched.report().outcome) == (True, "lost")
        assert watched.ask(query).ranking.docnos == theirs.ranking.docnos
        watched.flush()
        before = watched.report()
        ask_all(watched, queries(20))
        after = watched.report()
        assert after.sampled == before.sampled + 20
        assert after.mean == pytest.approx(before.mean, abs=0.2)
        assert "queries are answered by the baseline, until a reset or a new certificate" in str(after)
    with shadow("report") as watched:  # the state knows of the loss, and the policy is another
        assert watched.ask(query).ranking.docnos == mine.ranking.docnos
    delete(pruned, [1])
    index.refresh()
    with shadow("fall-back") as watched:  # the test starts anew with a commit, and the system is not taken back
        report = watched.report()
        assert (report.outcome, report.sampled, report.falls_back) == ("undecided", 0, True)
        assert watched.ask(query).ranking.docnos == theirs.ranking.docnos
        watched.reset()
        assert not watched.falls_back
        assert watched.ask(query).ranking.docnos == pipeline(pruned).ask(query).ranking.docnos
        assert watched.report().history[0].why == "reset"


def test_a_certificate_made_afterwards_ends_the_fall_back(whole, pruned, monkeypatch):
    from thresher.certify import certify
    from thresher.records import Query

    delete(pruned, range(0, 300, 2))
    with Shadow(pipeline(pruned), pipeline(whole), margin=MARGIN, share=1.0, policy="fall-back") as shadow:
        ask_all(shadow, queries(60))
        assert shadow.falls_back
        asked = [Query(str(n), query) for n, query in enumerate(queries(40))]
        made = certify(pruned, whole, asked, margin=0.99, pipelines=["sparse"])
        assert made.certified
        replace(made, made={**made.made, "date": "2999-01-01T00:00:00Z"}).write(pruned)
        end = time.monotonic() + 20
        while shadow.falls_back and time.monotonic() < end:  # it looks every few seconds
            monkeypatch.setattr(shadow._running, "_looked", -math.inf)
            shadow.report()
        report = shadow.report()
        assert (report.falls_back, report.outcome, report.lost_since) == (False, "undecided", None)
        assert "certificate" in report.history[0].why
        assert isinstance(Certificate.read(pruned), Certificate)


def test_the_state_survives_a_restart_and_holds_no_query(whole, tmp_path):
    file = tmp_path / "deep" / "state.json"
    settings = {"margin": MARGIN, "share": 0.5, "state": file}
    with Shadow(pipeline(whole), pipeline(whole), **settings) as shadow:
        ask_all(shadow, queries(60))
        first = shadow.report()
        with pytest.raises(BusyArtifactError, match="give each test a file of its own"):
            Shadow(pipeline(whole), pipeline(whole), **settings)
    assert not any(word in file.read_text() for word in WORDS)
    with Shadow(pipeline(whole), pipeline(whole), **settings) as shadow:
        assert shadow.report() == first
        ask_all(shadow, queries(140, 1))
        last = shadow.report()
    assert last.began == first.began
    assert last.sampled > first.sampled
    assert Running.read(file) == last
    with Shadow(pipeline(whole), pipeline(whole), **{**settings, "margin": 0.1}) as shadow:
        report = shadow.report()
        assert (report.sampled, report.history[0].sampled) == (0, last.sampled)
        assert "margin, alpha or measure changed from 0.05" in report.history[0].why


def test_another_process_is_refused_the_state_file(whole, tmp_path):
    script = (
        "import sys; from pathlib import Path\nfrom thresher.certify.running import *\n"
        "none = Subject('', 0, '', 0)\nRunning(ShadowSettings(.05), none, none, Path(sys.argv[1]))"
    )
    file = tmp_path / "state.json"
    with Shadow(pipeline(whole), pipeline(whole), margin=MARGIN, state=file):
        done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, check=False)
    assert "BusyArtifactError" in done.stderr


def test_a_damaged_state_is_an_error_with_a_remedy_at_the_start(whole, tmp_path):
    file = tmp_path / "state.json"
    with Shadow(pipeline(whole), pipeline(whole), margin=MARGIN, share=1.0, state=file) as shadow:
        ask_all(shadow, queries(5))
        shadow.reset()
        ask_all(shadow, queries(5))
    document = json.loads(file.read_text())
    texts = [file.read_text()[:-40], "", "[]", "nonsense", "{}"]
    garbage = (None, -1, "x", [], {}, [1], {"x": 1}, 1e400, True)
    texts += [json.dumps({**document, name: value}) for name in document for value in garbage]
    texts += [
        json.dumps({**document, name: {**document[name], key: value}})
        for name in ("settings", "system", "test")
        for key in document[name]
        for value in ([], "x", -1)
    ]
    refused = 0
    for text in texts:
        file.write_text(text)
        try:
            report = Running.read(file)
            with Shadow(pipeline(whole), pipeline(whole), margin=MARGIN, state=file) as shadow:
                shadow.ask("graina")
                json.dumps(shadow.report().as_json()), str(report)
        except DamagedArtifactError as err:
            assert "move it away to start the test anew" in str(err), text
            refused += 1
    assert refused > len(texts) * 0.7
    with Shadow(pipeline(whole), pipeline(whole), margin=MARGIN, state=tmp_path / "other.json"):
        pass


def test_a_state_that_cannot_be_written_while_serving_is_told_and_stops_nothing(whole, tmp_path, monkeypatch):
    from thresher.certify import running

    def full(*_):
        raise OSError(28, "No space left on device")

    with Shadow(pipeline(whole), pipeline(whole), margin=MARGIN, share=1.0, state=tmp_path / "s.json") as shadow:
        with monkeypatch.context() as patch:
            patch.setattr(running, "write_atomic", full)
            ask_all(shadow, queries(3))
            assert "No space left" in shadow.report().problem
        ask_all(shadow, queries(1))
        assert (shadow.report().problem, shadow.report().sampled) == ("", 4)


def test_threads_share_a_shadow_and_none_of_their_queries_is_lost(whole, pruned):
    delete(pruned, range(0, 300, 10))
    with Shadow(pipeline(pruned), pipeline(whole), margin=MARGIN, share=1.0, room=1000) as shadow:
        plain = {query: pipeline(pruned).ask(query).ranking.docnos for query in set(queries(20))}
        wrong = Counter()

        def ask(part):
            for query in queries(20):
                wrong[part] += shadow.ask(query).ranking.docnos != plain[query]

        threads = [threading.Thread(target=ask, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shadow.flush()
        report = shadow.report()
    assert (report.sampled, report.dropped, report.failed, wrong.total()) == (80, 0, 0, 0)


def test_a_view_restricts_the_baseline_too(whole, pruned):
    delete(pruned, range(1, 300, 2))
    index = Index.open(pruned)
    seen = []

    def loss(_, mine, theirs):
        seen.append({one.docno for answer in (mine, theirs) for one in answer.passages})
        return 1.0

    with Shadow(pipeline(index), pipeline(whole), margin=MARGIN, share=1.0, measure=loss, policy="fall-back") as shadow:
        red = shadow.over(index.restricted("team = red"))
        for query in queries(120):
            answer = red.ask(query)
            assert all(int(one.docno[1:]) % 2 == 0 for one in answer.passages)
            red.flush()
        assert red.falls_back
        assert shadow.report().sampled == len(seen) == 120
        assert all(int(docno[1:]) % 2 == 0 for docnos in seen for docno in docnos)
        with pytest.raises(InputError, match="color"):
            shadow.over(index.restricted("color = red"))


def test_what_a_deadline_cuts_short_and_what_is_not_searched_is_not_compared(whole):
    index = Index.open(whole)
    with Shadow(pipeline(index), pipeline(whole), margin=MARGIN, share=1.0) as shadow:
        found = index.search("graina chaffb", 5)
        shadow.ask("graina chaffb", candidates=found)
        shadow.ask("graina chaffb", allow=index.live)
        shadow.flush()
        assert shadow.report().sampled == 0
        shadow.ask("graina chaffb", allow=["d1", "d2"], where="team = red")
        assert [one.query for one in shadow.ask_batch(["graina", "chaffb"], 2, threads=2)] == ["graina", "chaffb"]
        shadow.flush()
        assert shadow.report().sampled == 3


def test_folded_duplicates_are_no_loss(whole, tmp_path):
    from thresher.build.recipe import Recipe
    from thresher.prune.plan import PruneStep

    texts = queries(40)
    twice = [Passage(f"{kind}{n}", f"{text} {n}") for n, text in enumerate(texts) for kind in "ab"]
    build_index(tmp_path / "folded", twice, recipe=Recipe(prune=PruneStep(estimator="length", junk=False)))
    build_index(tmp_path / "full", twice, recipe="bm25")
    assert len(Index.open(tmp_path / "folded")) == 40
    with Shadow(pipeline(tmp_path / "folded"), pipeline(tmp_path / "full"), margin=MARGIN, share=1.0) as shadow:
        ask_all(shadow, queries(20))
        assert shadow.report().mean < 0.05
    with pytest.raises(InputError, match="use overlap or expected"):
        Shadow(pipeline(whole), pipeline(whole), margin=MARGIN, measure="ndcg")
    with pytest.raises(InputError, match="margin"):
        Shadow(pipeline(whole), pipeline(whole), margin=0.0)


def test_the_command_shows_a_state_and_resets_it(whole, pruned, tmp_path, capsys, monkeypatch):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["thresher", "shadow", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    file = tmp_path / "state.json"
    delete(pruned, range(0, 300, 2))
    with Shadow(pipeline(pruned), pipeline(whole), margin=MARGIN, share=1.0, state=file, policy="fall-back") as shadow:
        assert command(file)[0] == 3
        ask_all(shadow, queries(40))
        code, out, _ = command(file)
        assert code == 3
        assert f"system    {pruned}, commit " in out
        assert "fall-back, 100% of the queries" in out
        assert "queries are answered by the baseline" in out
        code, _, err = command(file, "--reset")
        assert (code, "give each test a file of its own" in err) == (1, True)
    code, out, _ = command(file, "--reset", "--json")
    found = json.loads(out)
    assert (code, found["sampled"], found["lost_since"], found["history"][0]["sampled"]) == (0, 0, None, 40)
    with Shadow(pipeline(whole), pipeline(whole), margin=MARGIN, share=1.0, state=tmp_path / "good.json") as shadow:
        ask_all(shadow, queries(100))
    code, out, _ = command(tmp_path / "good.json", "--json")
    assert (code, json.loads(out)["outcome"]) == (0, "certified")
    assert ShadowReport.from_json(json.loads(out)).outcome == "certified"
    code, _, err = command(tmp_path / "absent.json")
    assert (code, "there is no state of a shadow test" in err) == (1, True)
    code, _, err = command("http://127.0.0.1:9")
    assert (code, "http://127.0.0.1:9/info cannot be reached" in err) == (1, True)
