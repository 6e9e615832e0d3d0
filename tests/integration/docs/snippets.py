"""Blocks of a page, and how each kind is run: Python in one namespace a page, commands in the page's folder.

A comment before a block says what it needs that not every machine has: `<!-- needs: models -->`. A line of a console
block that is no command is what the command prints; `…` stands for anything, alone on a line for any lines. A block of
another language that begins with `# NAME.toml` is written to that file.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

_BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>[a-z]+) -->\n+)?^```(?P<language>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
RUN = ("python", "sh", "console")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    needs: str
    code: str

    @property
    def where(self):
        return f"{self.page}:{self.line}"

    @property
    def file(self):
        """The name a block gives itself in a comment on its first line; it is written under it."""
        found = re.match(r"# ([\w-]+\.\w+)\b", self.code)
        return found[1] if found and self.language not in RUN else ""


def blocks(file, page):
    text = file.read_text(encoding="utf-8")
    return [
        Block(page, text[: m.start("code")].count("\n") + 1, m["language"].strip(), m["needs"] or "", m["code"])
        for m in _BLOCK.finditer(text)
        if not m["language"].startswith("{")  # a directive
    ]


def commands(block):
    """The command lines of a block, each with the lines it shall print (None: not said)."""
    if block.language == "sh":
        lines = block.code.replace("\\\n", " ").splitlines()
        return [(line.strip(), None) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    found = []
    for line in block.code.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> "):
            found[-1] = (found[-1][0].removesuffix("\\") + line[2:], [])
        elif line.strip():
            found[-1][1].append(line.rstrip())
    return [(command, printed or None) for command, printed in found]


def run_command(command, where):
    """What a command prints. `thresher` runs in this process, which saves its start; all else in a shell."""
    words = shlex.split(command, comments=True)
    target = None
    if len(words) > 2 and words[-2] == ">":
        *words, _, target = words
    if words[0] == "thresher" and "|" not in words:
        code, out, err = run_thresher(words[1:])
    else:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        code, out, err = done.returncode, done.stdout, done.stderr
    assert code == 0, f"{where}: {command} ended with {code}\n{out}{err}"
    if target:
        Path(target).write_text(out, encoding="utf-8")
        return ""
    return out


def run_thresher(arguments):
    from thresher.cli import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["thresher", *arguments])
        patch.setenv("COLUMNS", "120")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                code = 0
            except SystemExit as end:
                code = end.code or 0
    return code, out.getvalue(), err.getvalue()


def matches(printed, wanted):
    """Whether the lines printed are the lines wanted, where `…` stands for anything and alone for any lines."""
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in wanted
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


def run_block(block, namespace, replaced=()):
    code = block.code
    for old, new in replaced:
        code = code.replace(old, new)
    block = Block(block.page, block.line, block.language, block.needs, code)
    if block.language == "python":
        compiled = compile("\n" * (block.line - 1) + block.code, block.page, "exec")
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compiled, namespace)  # noqa: S102  (a page of this checkout)
        return
    for command, wanted in commands(block):
        printed = run_command(command, block.where)
        assert wanted is None or matches(printed, wanted), f"{block.where}: {command} prints\n{printed}"
