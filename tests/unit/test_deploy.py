"""The container file and the systemd unit start `thresher serve` with options that it has, as no privileged user."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from thresher.cli.serve import serve

DEPLOY = Path(__file__).parents[2] / "deploy"
if not DEPLOY.is_dir():
    pytest.skip("deploy/ is not part of an installation", allow_module_level=True)


def options():
    """The options of `thresher serve`."""
    app = typer.Typer()
    app.command()(serve)
    command = typer.main.get_command(app)
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


def instructions():
    """(instruction, argument) of the Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def test_the_options_of_both_files_exist():
    entry = json.loads(next(argument for name, argument in instructions() if name == "ENTRYPOINT"))
    started = shlex.split(unit()["Service"]["ExecStart"])
    for command in (entry, started):
        assert command[0].endswith("thresher")
        assert command[1] == "serve"
        assert {part for part in command if part.startswith("--")} <= options()


def test_the_container_runs_a_fixed_python_as_another_user_than_root_and_takes_signals():
    found = instructions()
    names = [name for name, _ in found]
    known = {
        "FROM",
        "ENV",
        "WORKDIR",
        "COPY",
        "RUN",
        "USER",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert set(names) <= known
    assert re.fullmatch(r"python:3\.\d+-slim", found[0][1])
    users = [argument for name, argument in found if name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert names.index("USER") < names.index("ENTRYPOINT")
    for name, argument in found:
        if name in ("ENTRYPOINT", "CMD"):  # not by a shell, which would keep the signal to itself
            assert isinstance(json.loads(argument), list)
        if name == "COPY":
            assert all((DEPLOY.parent / source).exists() for source in argument.split()[:-1])
        assert not re.search(r"(KEY|TOKEN|PASSWORD)=", argument)


def unit():
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read(DEPLOY / "thresher.service")
    return parser


def test_the_unit_waits_for_the_server_to_drain_and_takes_its_rights_away():
    service = unit()["Service"]
    drain = re.search(r"--drain-seconds (\d+)", service["ExecStart"])
    assert int(service["TimeoutStopSec"]) > int(drain[1])
    assert (service["KillSignal"], service["DynamicUser"], service["ProtectSystem"]) == ("SIGTERM", "yes", "strict")
    assert service["CapabilityBoundingSet"] == ""


def test_systemd_accepts_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not on this machine")
    file = tmp_path / "thresher.service"
    text = (DEPLOY / "thresher.service").read_text()
    file.write_text(text.replace("/opt/thresher/bin/thresher", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    problems = [line for line in done.stderr.splitlines() if "thresher.service" in line]
    assert not problems, problems
