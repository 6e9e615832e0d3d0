"""The files that the pages speak of, made small, and a language model server that answers them."""

import gzip
import json
import re
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.decision_server import PATHS, respond

ROOT = Path(__file__).parents[3]
PASSAGES = [
    ("wheat", "Wheat", "Threshing separates the grain of wheat from its chaff. A flail or a machine does it."),
    ("mill", "Mill", "A mill grinds grain into flour. Millstones turn slowly. The miller keeps a cat."),
    ("winnow", "Winnowing", "Wind carries the chaff away while the heavier grain falls. It follows threshing."),
    ("radium", "Radium", "Marie and Pierre Curie found radium in 1898. Radium glows in the dark. Paris is a city."),
    ("pitchblende", "Pitchblende", "Pitchblende is an ore of uranium. The Curies worked through tons of it."),
    ("goldfish", "Goldfish", "Goldfish grow to twelve inches in a pond. In a bowl they stay small."),
    ("sky", "Sky", "The sky is blue because air scatters short waves of light more than long ones."),
    ("sunset", "Sunset", "At sunset light crosses more air, and the red that is left colours the sky."),
    ("bread", "Bread", "Bread is baked from flour, water, salt and yeast. It was baked in Egypt long ago."),
    ("yeast", "Yeast", "Yeast turns sugar into gas, which raises the dough of bread."),
]
QUERIES = [
    ("1", "what separates grain from chaff"),
    ("2", "who found radium"),
    ("3", "why is the sky blue"),
    ("4", "how is bread baked"),
    ("5", "how large do goldfish grow"),
]
QRELS = [
    ("1", "wheat", 3), ("1", "winnow", 1), ("1", "mill", 0), ("2", "radium", 3), ("2", "pitchblende", 1),
    ("3", "sky", 3), ("3", "sunset", 1), ("4", "bread", 3), ("4", "yeast", 1), ("4", "mill", 0), ("5", "goldfish", 2),
]  # fmt: skip


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """A folder of everything that pages open without making it, among it an index of the passages."""
    folder = tmp_path_factory.mktemp("examples")
    _corpora(folder)
    (folder / "queries.tsv").write_text("".join(f"{q}\t{text}\n" for q, text in QUERIES))
    (folder / "log.tsv").write_text("".join(f"{q}\t{text}\n" for q, text in QUERIES))
    (folder / "qrels.txt").write_text("".join(f"{q} 0 {d} {grade}\n" for q, d, grade in QRELS))
    _runs(folder)
    _texts(folder)
    return folder


def _corpora(folder):
    records = [{"docno": d, "title": t, "text": x, "source": f"book-{n % 2}"} for n, (d, t, x) in enumerate(PASSAGES)]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "corpus.jsonl").write_text(lines)
    with gzip.open(folder / "passages.jsonl.gz", "wt") as out:
        out.write(lines)
    (folder / "retrieved.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records[3:7]))
    (folder / "corpus.tsv").write_text("".join(f"{d}\t{x}\n" for d, _, x in PASSAGES))


def _runs(folder):
    from thresher import Passage, build_index

    build_index(folder / "my-index", [Passage(d, x, t) for d, t, x in PASSAGES], "bm25")
    for name, order in (("bm25.run", 1), ("full.run", 1), ("new.run", -1), ("pruned.run", -1)):
        judged = {q: [d for q2, d, _ in QRELS if q2 == q][::order] for q, _ in QUERIES}
        rows = [f"{q} Q0 {d} {n} {10.0 - n} {name}\n" for q, ds in judged.items() for n, d in enumerate(ds, 1)]
        (folder / name).write_text("".join(rows))
        with gzip.open(folder / f"{name}.gz", "wt") as out:
            out.write("".join(rows))


def _texts(folder):
    (folder / "page.txt").write_text(PASSAGES[3][2])
    (folder / "notes.md").write_text(f"# Notes\n\n{PASSAGES[4][2]}\n")
    asked = {"query": QUERIES[1][1], "passages": [PASSAGES[3][2], PASSAGES[4][2]]}
    (folder / "batch.jsonl").write_text(json.dumps(asked) + "\n")
    labelled = [
        {"query": query, "passage": text, "answers": [[0, text.index(".") + 1]]}
        for (_, query), (_, _, text) in zip(QUERIES, [PASSAGES[n] for n in (0, 3, 6, 8, 5)], strict=True)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in labelled)
    for name in ("held-out.jsonl", "mine.jsonl"):
        (folder / name).write_text(lines)


@pytest.fixture
def place(examples, tmp_path, monkeypatch):
    """A copy of the examples of the page's own, and the working directory; caches go there too."""
    folder = tmp_path / "page"
    shutil.copytree(examples, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    return folder


class _Chat(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path in PATHS:
            self._send(*respond(self.path, asked, lambda text: min(text.lower().count("air"), 2) / 3))
            return
        labels = re.findall(r"\[(\d+)\]\n<passage>", asked["messages"][-1]["content"])
        message = {"role": "assistant", "content": " > ".join(f"[{label}]" for label in labels)}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        reply = {"id": "1", "object": "chat.completion", "model": asked["model"], "usage": usage}
        reply["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
        self._send(200, reply)

    def _send(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="session")
def chat_server():
    """The address of a server that speaks the chat dialect, finds every order right, and decides by a word."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture(scope="session")
def search_server(examples):
    """The address of `thresher serve my-index`, ready."""
    for package in ("fastapi", "prometheus_client"):
        pytest.importorskip(package, reason="the extra serve is not installed")
    from thresher.serve import ServeSettings, create_app
    from thresher.serve.run import Server

    settings = ServeSettings(port=0, log=False)
    app = create_app({"my-index": examples / "my-index"}, settings)
    server = Server(app, settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while thread.is_alive() and not app.state.services.ready:
        time.sleep(0.01)
    yield server.address
    server.should_exit = True
    thread.join(20)
