"""Small indexes with queries and judgments: what a pruning of them loses is known."""

import numpy as np
import pytest

from tests.word_pairs import NAME, WORDS, registered
from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.evaluate import write_qrels
from thresher.records import Passage, Qrels, Query

TOPICS = 40


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The learned encoder of the tests, and nothing flushed: nothing here is about crashes."""
    registered(monkeypatch)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def passages(topics=TOPICS):
    """For each topic a relevant passage, one that is nearly so, and others."""
    rng = np.random.default_rng(7)
    made = []
    for topic in range(topics):
        common = " ".join(rng.choice(WORDS, 4))
        made.append(Passage(f"r{topic:02}", f"topic{topic} name{topic} answer {common}."))
        made.append(Passage(f"s{topic:02}", f"topic{topic} aside {common}. Something else is here."))
        made.append(Passage(f"x{topic:02}", f"noise {common} {rng.choice(WORDS)}"))
    return made


QUERIES = tuple(Query(f"q{topic:02}", f"topic{topic} name{topic} grain") for topic in range(TOPICS))
QRELS = Qrels({f"q{topic:02}": {f"r{topic:02}": 2, f"s{topic:02}": 1, f"x{topic:02}": 0} for topic in range(TOPICS)})


def recipe(**tables):
    """Both signals, and models that need none."""
    ask = {"context": "lexical", "rerank": "lexical", "read": 5, "k": 3, **tables.pop("ask", {})}
    encode = {"encoder": f"bm25+{NAME}", "learned_weight": 0.05}
    return Recipe.model_validate({"encode": encode, "ask": ask, **tables})


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The unpruned index, its queries and its judgments; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("certify")
    with pytest.MonkeyPatch.context() as patch:
        registered(patch)
        build_index(folder / "whole", passages(), recipe())
    (folder / "queries.tsv").write_text("".join(f"{query.qid}\t{query.text}\n" for query in QUERIES))
    write_qrels(QRELS, folder / "qrels.txt")
    return folder / "whole"
