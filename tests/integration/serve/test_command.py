"""`thresher serve` as a process: what it says, who it lets in, and that TERM loses no request."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import httpx2
import pytest

from thresher.cli import main
from thresher.cli.serve import check_address, named
from thresher.serve import ServeSettings

pytest.importorskip("prometheus_client")


BODY = '{"query": "chaff", "k": 40}'
REQUEST = (
    "POST /search HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    + BODY.replace("{", "{{").replace("}", "}}")
)


@pytest.fixture
def started():
    """A function that starts the command and gives the process, its address and the lines before it."""
    processes = []

    def start(*arguments, **environment):
        command = [sys.executable, "-m", "thresher", "serve", *map(str, arguments), "--port", "0"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        processes.append(process)
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if line.startswith("listening on "):
                return process, line.split()[-1], said
        raise AssertionError(process.stderr.read())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_the_command_serves_with_a_key_and_loses_no_request_when_it_is_stopped(small_index, started):
    process, url, said = started(
        f"hay={small_index}",
        "--api-key-env",
        "SOME_KEY",
        "--host",
        "0.0.0.0",  # noqa: S104
        "--workers",
        "1",
        SOME_KEY="k1,k2",
    )
    assert said[0] == "hay: 40 passages, commit 1, stages search > select"
    url = url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    with httpx2.Client(base_url=url, timeout=60) as client:
        assert client.get("/info").status_code == 401
        while client.get("/ready").status_code != 200:
            time.sleep(0.2)  # each request is a line of the access log, in a pipe that is not read meanwhile
    host, port = url.removeprefix("http://").split(":")
    with ExitStack() as opened:
        connections = [opened.enter_context(socket.create_connection((host, int(port)), 60)) for _ in range(40)]
        for connection, key in zip(connections, ["k1", "k2"] * 20, strict=True):
            connection.sendall(REQUEST.format(key=key).encode())
        process.send_signal(signal.SIGTERM)
        answers = [opened.enter_context(connection.makefile("rb")).read() for connection in connections]
    assert [answer.split(b" ", 2)[1] for answer in answers] == [b"200"] * 40
    assert all(answer.endswith(b"}") for answer in answers)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "stopped"
    assert "k1" not in out + err


def test_listening_beyond_this_machine_without_a_key_is_refused_in_one_line(small_index, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["thresher", "serve", str(small_index), "--host", "0.0.0.0"])  # noqa: S104
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert len(said) == 1
    assert "--api-key-env" in said[0]


@pytest.mark.parametrize("command", [["serve"], ["mcp", "--http"]])
def test_an_address_that_is_taken_or_of_another_machine_is_refused_in_one_line(
    small_index, monkeypatch, capsys, command
):
    if command[0] == "mcp":
        pytest.importorskip("mcp", reason="the extra mcp is not installed")

    def said(*more):
        monkeypatch.setattr(sys, "argv", ["thresher", *command, str(small_index), *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert said("--port", port).startswith(f"error: cannot listen on 127.0.0.1, port {port}: Address already in")
    assert said("--host", "203.0.113.7", "--without-key").startswith("error: cannot listen on 203.0.113.7, port ")
    check_address(ServeSettings(port=0))


def test_an_index_is_called_by_its_directory_or_by_the_name_given(tmp_path):
    assert list(named([str(tmp_path / "docs"), "code=indexes/x"])) == ["docs", "code"]
    with pytest.raises(Exception, match="two indexes are called 'docs'"):
        named(["docs", "other/docs"])
