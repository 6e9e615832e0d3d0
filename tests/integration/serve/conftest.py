"""A small index with metadata, and servers over it that listen on a free port of this machine."""

import threading
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("prometheus_client", reason="the extra serve is not installed")

import httpx2

from thresher import Passage, build_index
from thresher.serve import ServeSettings, create_app
from thresher.serve.run import Server

TEAMS = ("red", "blue")
PASSAGES = [
    Passage(
        f"d{n}",
        f"The thresher separates grain from chaff in field {n}. Chaff is light. The team {TEAMS[n % 2]} keeps it.",
        f"Field {n}",
        {"team": TEAMS[n % 2], "year": 2000 + n % 10, "tags": ["harvest", f"t{n % 3}"], "url": f"https://x.test/{n}"},
    )
    for n in range(40)
]


class Running:
    """A server in a thread of this process.

    Attributes:
        url: where it listens, without a slash at the end; `address`: host and port.
        app, services, server: its parts.
        client: of httpx2, with the URL as its base.
    """

    def __init__(self, indexes, settings, shadows=None, reaching=None):
        self.app = create_app(indexes, settings, shadows=shadows, reaching=reaching)
        self.services = self.app.state.services
        self.server = Server(self.app, settings)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_until(lambda: self.server.started)
        self.url = self.server.address
        self.address = self.server.servers[0].sockets[0].getsockname()[:2]
        self.client = httpx2.Client(base_url=self.url, timeout=60)

    def wait_until_ready(self):
        wait_until(lambda: is_ready(self.client))

    def stop(self):
        self.client.close()
        self.server.should_exit = True
        self.thread.join(20)


def is_ready(client):
    """Whether the server is; while it compiles kernels for the first time it may be too busy to answer."""
    try:
        return client.get("/ready").status_code == 200
    except httpx2.TimeoutException:
        return False


def wait_until(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def running(indexes, shadows=None, reaching=None, **settings):
    """A server over these indexes (directory by name), stopped at the end."""
    server = Running(
        indexes, ServeSettings(port=0, **{"log": False, "linger_seconds": 0.05, **settings}), shadows, reaching
    )
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def small_index(tmp_path_factory):
    """The directory of an index of 40 passages, searched by BM25. Not to be changed: copy it for that."""
    path = tmp_path_factory.mktemp("serve") / "fields"
    build_index(path, PASSAGES, recipe="bm25")
    return path


@pytest.fixture(scope="session")
def server(small_index):
    """A running server without keys over the small index, which is called `fields`."""
    with running({"fields": small_index}) as made:
        made.wait_until_ready()
        yield made


@pytest.fixture
def client(server):
    """A client of that server."""
    return server.client


@pytest.fixture(scope="session")
def serving():
    """`running`, for servers with other settings."""
    return running


@pytest.fixture(scope="session")
def until():
    """`wait_until`."""
    return wait_until


def build_reading(path):
    """The same passages in an index whose pipeline reranks and selects sentences, without a model."""
    from thresher.build.recipe import load_recipe

    recipe = load_recipe("bm25")
    settings = {"rerank": "lexical", "context": "lexical", "threshold": 0.12, "repeats": "keep"}
    step = recipe.ask.model_copy(update=settings)
    build_index(path, PASSAGES, recipe=recipe.model_copy(update={"ask": step}))


@contextmanager
def reading_server(path):
    """A server over that index, which is built here where it is not there, with a key for all and one for each team."""
    from thresher.index.filters import Where
    from thresher.serve.keys import Caller, key_of

    if not path.is_dir():
        build_reading(path)
    keys = [key_of(team, Caller(team, where=Where.parse(f"team = {team}"))) for team in TEAMS]
    with running({"reading": path}, keys=(key_of("all", Caller("all")), *keys)) as made:
        made.client.headers["authorization"] = "Bearer all"
        made.wait_until_ready()
        yield made


@pytest.fixture(scope="session")
def reading_index(tmp_path_factory):
    """The directory of that index. Not to be changed: copy it for that."""
    path = tmp_path_factory.mktemp("serve") / "reading"
    build_reading(path)
    return path


@pytest.fixture(scope="session")
def reading(reading_index):
    """A running server over that index, called `reading`."""
    with reading_server(reading_index) as made:
        yield made
