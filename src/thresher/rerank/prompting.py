"""From a query and passages to the messages a model reads: versioned templates, fences, and truncation.

A template is a Jinja file of the package or of the user, with parts that begin with a line `--- system`, `--- user` or
`--- assistant`. Parts that begin with `--- user each passage` (or another role) are repeated for every passage, which
they see as `passage`. The parts are split before anything is filled in, so no passage can begin one. User templates run
in Jinja's sandbox without access to attributes, files or the environment; an undefined name in a template is an error.

Besides one template a family, the package has published prompts in our own words: `rankgpt` (a conversation with a turn
for each passage; Sun et al., arXiv 2304.09542) and `rankzephyr` (one turn; Pradeep et al., arXiv 2312.02724) for lists,
`prp` (Qin et al., arXiv 2306.17563) for pairs and `setwise-plain` (Zhuang et al., arXiv 2310.09497) for sets. Like
theirs, they show passages without tags around them.

A passage is data. It is placed between `<passage>` tags and changed only where it could be taken for something else:
fence tags and control tokens of chat formats lose their opening bracket (`<` becomes `‹`), and bracketed ids become
parenthesised, so that a passage cannot close its fence, begin a turn, or be read as naming an id. What counts is the
shape: full-width characters, blanks and invisible characters between the signs make no difference. Queries are treated
the same, without the fence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, cast

from thresher.errors import ConfigError, ModelError, require
from thresher.files import read_text
from thresher.llm.model import Message, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import jinja2
    import jinja2.sandbox

    from thresher.llm.model import LanguageModel
    from thresher.llm.tokens import Tokens
    from thresher.records import Hit, Query

CACHED_PROMPTS = 50_000  # cut passages and prompt lengths remembered
FAMILIES = ("listwise", "setwise", "pairwise", "yes-no", "graded", "likelihood", "monot5", "umbrela", "rank1")
VERSION = "v1"

PUBLISHED = ("rankgpt", "rankzephyr", "prp", "setwise-plain")
THINKING = ("rank-k",)
"""Templates for models that think first: an order with ties (Rank-K, arXiv 2505.14432)."""
_UNFENCED = ("monot5", *PUBLISHED)

_PART = re.compile(r"^--- (system|user|assistant)( each passage)?[ \t]*\n", re.MULTILINE)
_NAMES = (  # of tags that chat formats, tool calls and our own prompts use
    r"/?(?:passage|s|bos|eos|pad|unk|mask|sep|cls|sop|eop|think\w{0,3}|thought|reasoning|answer|tool\w{0,20}|function\w{0,20}|"
    r"(?:start|end|begin)_?of_?\w{1,20}|im_(?:start|end)|unused\d{0,4}|extra_id_\d{1,4}|reserved_\w{1,40}|0x[0-9a-f]{2}|"
    r"seed:\w{1,20}|channel|message|turn|system|user|assistant|human|bot|instructions?)"
)
_CONTROL = re.compile(
    rf"<(?=\s{{0,3}}/?\s{{0,3}}\|)|<(?=[\w/]{{1,40}}\|>)|<(?=<\s?/?\s?SYS)|<(?=\s{{0,3}}/?\s{{0,3}}{_NAMES}(?![\w-]))"
    r"|\[(?=\s{0,3}/?\s{0,3}(?:INST|THINK|CLS|SEP|MASK|PAD|UNK|BOS|EOS|ARGS|IMG\w{0,9}|gMASK|sMASK|PREFIX|SUFFIX|MIDDLE|"
    r"CALL_ID|TOOL_\w{1,20}|AVAILABLE_TOOLS|SYSTEM_PROMPT|MODEL_SETTINGS)\s{0,3}\])|\[(?=[e~!]{1,3}\[)|\](?=[~!]{1,2}b[\[\]])",
    re.IGNORECASE,
)
_ID = r"(?:(?i:passage|document|doc|text|id|identifier|item|candidate|option|result)[ _#:.-]{0,3})?#?\d{1,18}"
_BRACKETED = re.compile(rf"\[\s{{0,9}}(?:{_ID}(?:\s{{0,3}}[,;]\s{{0,3}}{_ID}){{0,99}}|[A-Z])\s{{0,9}}\]")
_SHAPE = (  # a character a character: what others look like, and what a model may take them for
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    | dict.fromkeys(map(ord, "\u3010\u3014\u3016\u300c\u300e\u27e6\u2772\ufe5d\ufe47"), "[")
    | dict.fromkeys(map(ord, "\u3011\u3015\u3017\u300d\u300f\u27e7\u2773\ufe5e\ufe48"), "]")
    | dict.fromkeys(map(ord, "\ufe64\u25c1\u3008\u2329\u27e8"), "<")
    | dict.fromkeys(map(ord, "\ufe65\u25b7\u3009\u232a\u27e9"), ">")
    | dict.fromkeys(map(ord, "\uffe8\u2223\u01c0\u2502\u00a6"), "|")
    | dict.fromkeys(
        map(ord, "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"), " "
    )
    | {0x2581: "_", 0x2044: "/", 0x2215: "/"}
)
_OPENERS = {"<": "\u2039", "[": "(", "]": ")"}


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt template.

    Attributes:
        name: `listwise-v1`, or the file it came from.
        text: its source.
        parts: role and source of each part, in order, and whether it is repeated for each passage.
        fenced: whether passages are fenced; published formats do not allow it.
    """

    name: str
    text: str
    parts: tuple[tuple[str, str, bool], ...]
    fenced: bool = True

    def render(self, values: Mapping[str, object]) -> tuple[Message, ...]:
        """The messages of the template, filled in.

        Raises:
            ConfigError: it uses an undefined name, or fails otherwise.
        """
        return tuple(self._messages(values))

    def _messages(self, values: Mapping[str, object]) -> Iterator[Message]:
        """The messages in order; neighbouring parts that are repeated are repeated together."""
        for repeated, group in groupby(self.parts, key=lambda part: part[2]):
            sources = [(role, source) for role, source, _ in group]
            passages = values.get("passages", ()) if repeated else (None,)
            for passage in cast("Sequence[object]", passages):
                own = {"passage": passage} if repeated else {}
                for role, source in sources:
                    try:
                        content = _compiled(source).render(**values, **own)
                    except Exception as err:
                        raise ConfigError(
                            f"the prompt template {self.name} fails: {type(err).__name__}: {err}"
                        ) from None
                    yield Message(role, content.strip())


def load_template(name: str | Path) -> Template:
    """A template of the package by family (`listwise`) or name (`listwise-v1`, `rankgpt`), or a file (with a suffix).

    Raises:
        DataNotFoundError: no such file.
        ConfigError: no such family, no part in it, or a syntax error.
    """
    text_name = str(name)
    if text_name in (*FAMILIES, *PUBLISHED, *THINKING):
        text_name = f"{text_name}-{VERSION}"
    if isinstance(name, Path) or "/" in text_name or "." in text_name:
        return _parsed(text_name, read_text(name).replace("\r\n", "\n"))
    shipped = files("thresher.rerank") / "prompts" / f"{text_name}.jinja"
    if not shipped.is_file():
        raise ConfigError(
            f"unknown prompt {text_name!r}; choose a family ({', '.join(FAMILIES)}), a published prompt "
            f"({', '.join(PUBLISHED)}), one that asks to think ({', '.join(THINKING)}), or name a file of your own"
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
    text = re.sub("[\ud800-\udfff]", "\ufffd", text)  # half a surrogate pair, which no tokenizer takes
    shape = text.translate(_SHAPE)
    changed = list(text)
    for found in _CONTROL.finditer(shape):
        changed[found.start()] = _OPENERS[found[0]]
    for found in _BRACKETED.finditer(shape):
        changed[found.start()], changed[found.end() - 1] = "(", ")"
    return "".join(changed)


def fence(text: str, special: Iterable[str] = ()) -> str:
    """A passage, neutralised, between its tags."""
    return f"<passage>\n{neutralise(text, special).strip()}\n</passage>"


class Prompts:
    """The prompts of a judge: templates filled in, with passages cut so that prompt and answer fit the model.

    Args:
        templates: by family.
        passage_tokens: passages are cut to this many of the model's tokens, and further where they would not fit.
        instruction: a sentence added to the prompt.
    """

    def __init__(self, templates: Mapping[str, Template], passage_tokens: int, instruction: str) -> None:
        self.templates, self._passage_tokens, self._instruction = templates, passage_tokens, instruction
        self._cuts: dict[tuple[str, int], tuple[str, bool]] = {}
        self._frames: dict[tuple[object, ...], int] = {}

    def fill(
        self,
        model: LanguageModel,
        family: str,
        query: Query,
        hits: Sequence[Hit],
        labels: Sequence[str],
        *,
        answer: int,
        structured: bool = False,
    ) -> tuple[tuple[Message, ...], int]:
        """The messages for some passages, and how many of these were cut.

        Args:
            model: reads them.
            family: of the template.
            query: what was searched.
            hits: the passages, in the order shown.
            labels: of the passages.
            answer: the most tokens of the answer, reasoning included.
            structured: whether the answer is constrained to a schema.

        Raises:
            ModelError: the passages do not fit the model's context.
        """
        template = self.templates[family]
        values = {
            "query": neutralise(query.text, model.tokens.special),
            "n": len(hits),
            "instruction": self._instruction,
            "example": " > ".join(f"[{label}]" for label in [*labels[1:3], labels[0]][: len(labels)]),
            "structured": structured,
        }
        room = self._room(model, template, values, labels, answer)
        passages = []
        truncated = 0
        for hit, label in zip(hits, labels, strict=True):
            text, cut = self._cut(model, f"{hit.title}. {hit.text}" if hit.title else hit.text, room)
            truncated += cut
            passages.append({"label": label, "text": _shown(model, template, text)})
        return template.render({**values, "passages": passages}), truncated

    def _room(
        self, model: LanguageModel, template: Template, values: Mapping[str, object], labels: Sequence[str], answer: int
    ) -> int:
        """The tokens of each passage that fit the context; 0 if its length is unknown."""
        if model.context is None:
            return 0
        frame = self._frame(model, template, values, labels)
        room = (model.context - frame - answer - 16) // len(labels) - 2  # joining may cost a token on each side
        if room < 1:
            raise ModelError(
                f"{len(labels)} passages do not fit the context of {model.name} ({model.context} tokens, "
                f"{frame} of them for the prompt without passages); choose a smaller window"
            )
        return room

    def _frame(
        self, model: LanguageModel, template: Template, values: Mapping[str, object], labels: Sequence[str]
    ) -> int:
        """Tokens of the prompt with empty passages, computed once for a query and a number of passages."""
        key = (template.name, *values.values(), *labels)
        if key not in self._frames:
            if len(self._frames) > CACHED_PROMPTS:
                self._frames.clear()
            empty = [{"label": label, "text": _shown(model, template, "")} for label in labels]
            self._frames[key] = model.prompt_bound(Request(template.render({**values, "passages": empty})))
        return self._frames[key]

    def _cut(self, model: LanguageModel, text: str, room: int) -> tuple[str, bool]:
        """The beginning of a passage: `passage_tokens` by count, and within the room of the context by the bound."""
        key = (text, room)
        if key not in self._cuts:
            if len(self._cuts) > CACHED_PROMPTS:
                self._cuts.clear()
            tokens = model.tokens
            text = neutralise(text, tokens.special)
            cut = tokens.cut(text, min(self._passage_tokens, room or self._passage_tokens))
            if room and tokens.bound(cut) > room:
                cut = _within(cut, room, tokens)
            self._cuts[key] = (cut, len(cut) < len(text))
        return self._cuts[key]


def _shown(model: LanguageModel, template: Template, text: str) -> str:
    special = model.tokens.special
    return fence(text, special) if template.fenced else neutralise(text, special)


def _within(text: str, room: int, tokens: Tokens) -> str:
    """The longest beginning of whole words (or the longest, if there are none) that has at most `room` tokens."""
    fits, longest = 0, len(text)
    while fits < longest:
        middle = (fits + longest + 1) // 2
        if tokens.bound(text[:middle]) <= room:
            fits = middle
        else:
            longest = middle - 1
    head = text[:fits]
    return head[: head.rfind(" ")] if " " in head and fits < len(text) else head


def _parsed(name: str, text: str) -> Template:
    pieces = _PART.split(text)
    found = zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True)
    parts = [(role, source, bool(each)) for role, each, source in found]
    if not parts:
        raise ConfigError(f"the prompt template {name} has no part; begin one with a line `--- user`")
    for _, source, _ in parts:
        try:
            _compiled(source)
        except Exception as err:
            raise ConfigError(f"the prompt template {name} is not valid Jinja: {err}") from None
    return Template(name, text, tuple(parts), fenced=not name.startswith(_UNFENCED))


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
