"""The README works as shown: its Python runs, its commands exist with the options it names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def blocks(language):
    if not README.is_file():
        pytest.skip("the README is in the checkout only")
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_finds_what_it_indexes(tmp_path):
    (code,) = blocks("python")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0].startswith("1 wheat ")


def test_every_command_line_names_a_command_and_options_it_has():
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    commands = [line.partition("#")[0].split() for line in lines if line.startswith("thresher ")]
    assert len(commands) >= 8
    helps = {}
    for _, name, *rest in commands:
        if name not in helps:
            script = "from thresher.cli import main; main()"
            asked = subprocess.run(
                [sys.executable, "-c", script, name, "--help"], capture_output=True, text=True, check=False
            )
            assert asked.returncode == 0, asked.stderr
            helps[name] = asked.stdout
        for option in (part for part in rest if part.startswith("-")):
            assert option in helps[name], f"thresher {name} has no {option}"
