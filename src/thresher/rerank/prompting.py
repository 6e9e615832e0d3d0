"""From a query and passages to the messages a model reads: versioned templates, fences, and truncation.

A template is a Jinja file of the package or of the user, with parts that begin with a line `--- system`, `--- user` or
`--- assistant`. The parts are split before anything is filled in, so no passage can begin one. User templates run in
Jinja's sandbox without access to attributes, files or the environment; an undefined name in a template is an error.

A passage is data. It is placed between `<passage>` tags and changed only where it could be taken for something else:
fence tags and control tokens of chat formats lose their opening bracket (`<` becomes `‹`), and bracketed ids become
parenthesised, so that a passage cannot close its fence, begin a turn, or be read as naming an id. Queries are treated
the same, without the fence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, require
from thresher.files import read_text
from thresher.llm.model import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import jinja2
    import jinja2.sandbox

FAMILIES = ("listwise", "setwise", "pairwise", "yes-no", "graded", "likelihood", "monot5")
VERSION = "v1"

_PART = re.compile(r"^--- (system|user|assistant)[ \t]*\n", re.MULTILINE)
_CONTROL = re.compile(
    r"<(?=\|[^<>\n]{0,40}\|>)|<(?=/?s>|/?think\b|(?:start|end)_of_turn>|bos>|eos>|pad>|unk>|<SYS>>|</?SYS>>)"
    r"|\[(?=/?INST\])|<(?=/?passage\b)",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"\[\s*(\d{1,4}|[A-Z])\s*\]")
_OPENERS = {"<": "\u2039", "[": "("}


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt template.

    Attributes:
        name: `listwise-v1`, or the file it came from.
        text: its source.
        parts: role and source of each part, in order.
        fenced: whether passages are fenced; the format of monoT5 does not allow it.
    """

    name: str
    text: str
    parts: tuple[tuple[str, str], ...]
    fenced: bool = True

    def render(self, values: Mapping[str, object]) -> tuple[Message, ...]:
        """The messages of the template, filled in.

        Raises:
            ConfigError: it uses an undefined name, or fails otherwise.
        """
        messages = []
        for role, source in self.parts:
            try:
                content = _compiled(source).render(**values)
            except Exception as err:
                raise ConfigError(f"the prompt template {self.name} fails: {type(err).__name__}: {err}") from None
            messages.append(Message(role, content.strip()))
        return tuple(messages)


def load_template(name: str | Path) -> Template:
    """A template of the package by family (`listwise`) or name (`listwise-v1`), or a file (a path with a suffix).

    Raises:
        DataNotFoundError: no such file.
        ConfigError: no such family, no part in it, or a syntax error.
    """
    text_name = str(name)
    if text_name in FAMILIES:
        text_name = f"{text_name}-{VERSION}"
    if isinstance(name, Path) or "/" in text_name or "." in text_name:
        return _parsed(text_name, read_text(name).replace("\r\n", "\n"))
    shipped = files("thresher.rerank") / "prompts" / f"{text_name}.jinja"
    if not shipped.is_file():
        raise ConfigError(
            f"unknown prompt {text_name!r}; choose a family ({', '.join(FAMILIES)}), or name a file of your own"
        )
    return _parsed(text_name, shipped.read_text(encoding="utf-8"))


def neutralise(text: str, special: Iterable[str] = ()) -> str:
    """`text` with everything changed that could be read as an id, a fence, or a control token of a chat format.

    Args:
        text: a passage or a query.
        special: further control tokens, from the model's tokenizer.
    """
    for token in special:
        if token in text:
            text = text.replace(token, f"\u2039{token[1:]}" if len(token) > 1 else "\u2039")
    text = _CONTROL.sub(lambda match: _OPENERS[match[0]], text)
    return _BRACKETED.sub(r"(\1)", text)


def fence(text: str, special: Iterable[str] = ()) -> str:
    """A passage, neutralised, between its tags."""
    return f"<passage>\n{neutralise(text, special).strip()}\n</passage>"


def _parsed(name: str, text: str) -> Template:
    pieces = _PART.split(text)
    parts: Sequence[tuple[str, str]] = list(zip(pieces[1::2], pieces[2::2], strict=True))
    if not parts:
        raise ConfigError(f"the prompt template {name} has no part; begin one with a line `--- user`")
    for _, source in parts:
        try:
            _compiled(source)
        except Exception as err:
            raise ConfigError(f"the prompt template {name} is not valid Jinja: {err}") from None
    return Template(name, text, tuple(parts), fenced=not name.startswith("monot5"))


@lru_cache(maxsize=64)
def _compiled(source: str) -> jinja2.Template:
    return _sandbox().from_string(source)


@lru_cache(maxsize=1)
def _sandbox() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    sandbox = require("jinja2.sandbox", extra="llm", purpose="rendering prompts")
    library = require("jinja2", extra="llm", purpose="rendering prompts")
    made: jinja2.sandbox.ImmutableSandboxedEnvironment = sandbox.ImmutableSandboxedEnvironment(
        undefined=library.StrictUndefined, autoescape=False
    )
    return made
