"""A small HTTP server on asyncio that speaks the chat dialect, waits as told, and misbehaves as told."""

import asyncio
import json
import re
import threading
import time
from dataclasses import dataclass, field

import pytest

from thresher.llm.openai_server import OpenAIServer
from thresher.records import Hit


@dataclass
class Reaction:
    """What the server does with one request."""

    status: int = 200
    phrase: str = "X"  # after the status
    body: bytes = b""
    headers: dict = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False  # send half of the body and hang up
    close: bool = False  # hang up without a word
    endless: bytes = b""  # chunks of this, until the client hangs up
    pause: float = 0.0  # between the chunks


class LocalServer:
    """Runs in a thread of its own; `react(number, path, body)` decides about each request."""

    def __init__(self):
        self.react = lambda number, path, body: chat(order_by_grade(body))
        self.requests: list[tuple[str, dict, dict]] = []
        self.writers = set()
        self.open_now = self.most_open = self.sent = self.connected = self.together = 0
        self.loop = asyncio.new_event_loop()
        self.enough = asyncio.Event()
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def hold_until_open(self, count):
        """Answer nothing before `count` requests have been open at once."""
        self.together = count

    def wait_until_left(self):
        """Until every client has hung up, and what it sent has been read."""
        while self.connected:
            time.sleep(0.01)

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256))
        self.port = self.server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    def stop(self):
        async def end():
            self.server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for writer in self.writers:
                writer.transport.abort()  # what a client did not take keeps a closing connection open
            await asyncio.sleep(0)  # a connection is closed in the turn after
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _serve(self, reader, writer):
        self.writers.add(writer)
        self.connected += 1
        try:
            while line := await reader.readline():
                _, path, _ = line.decode().split()
                headers = {}
                while (line := await reader.readline()).strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
                self.requests.append((path, headers, body))
                self.open_now += 1
                self.most_open = max(self.most_open, self.open_now)
                if self.open_now >= self.together:
                    self.enough.set()
                try:
                    await self.enough.wait()
                    alive = await self._react(len(self.requests) - 1, path, body, writer)
                finally:
                    self.open_now -= 1
                if not alive:
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.connected -= 1
            writer.close()

    async def _react(self, number, path, body, writer):
        reaction = self.react(number, path, body)
        await asyncio.sleep(reaction.delay)
        if reaction.close:
            return False
        if reaction.endless:
            writer.write(f"HTTP/1.1 {reaction.status} X\r\ntransfer-encoding: chunked\r\n\r\n".encode())
            while True:  # until the client hangs up: an error here ends the connection
                writer.write(b"%x\r\n%s\r\n" % (len(reaction.endless), reaction.endless))
                await writer.drain()
                self.sent += len(reaction.endless)
                await asyncio.sleep(reaction.pause)
        head = [f"HTTP/1.1 {reaction.status} {reaction.phrase}", f"content-length: {len(reaction.body)}",
                "content-type: application/json", *(f"{k}: {v}" for k, v in reaction.headers.items())]  # fmt: skip
        data = ("\r\n".join(head) + "\r\n\r\n").encode() + reaction.body
        writer.write(data[: len(data) - len(reaction.body) // 2] if reaction.cut else data)
        await writer.drain()
        return not reaction.cut


def chat(text, *, delay=0.0, prompt_tokens=100, completion_tokens=20, logprobs=None, finish="stop"):
    """A well-formed chat completion."""
    document = {
        "id": "x", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text},
                     "logprobs": logprobs}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
                  "total_tokens": prompt_tokens + completion_tokens},
    }  # fmt: skip
    return Reaction(body=json.dumps(document).encode(), delay=delay)


def order_by_grade(body):
    """Order the passages of a prompt by the grade their text states."""
    prompt = body["messages"][1]["content"]
    found = re.findall(r"\[(\w+)\]\n<passage>\ngrade (\d+)", prompt)
    return " > ".join(f"[{label}]" for label, _ in sorted(found, key=lambda pair: -int(pair[1])))


@pytest.fixture
def server():
    running = LocalServer()
    yield running
    running.stop()


@pytest.fixture
def model(server):
    made = OpenAIServer("tiny", server.url, timeout=60.0, connections=64)
    yield made
    made.close()


@pytest.fixture
def make_hits():
    def make(grades):
        return [
            Hit(f"d{i}", float(len(grades) - i), i + 1, text=f"grade {g} and some words") for i, g in enumerate(grades)
        ]

    return make


@pytest.fixture(name="chat")
def _chat():
    return chat


@pytest.fixture(name="order_by_grade")
def _order_by_grade():
    return order_by_grade


@pytest.fixture(name="reaction")
def _reaction():
    return Reaction
