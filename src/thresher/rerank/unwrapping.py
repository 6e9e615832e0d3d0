"""The answer itself in what a model wrote: reasoning, wrappers, control tokens and foreign signs removed.

Models mark their reasoning in many ways, and servers strip the marks in others. What is removed is stated in
`thresher.rerank.parsing`. Where it is unclear whether reasoning has ended, nothing is left to read.
Everything here takes linear time: each pattern is of bounded length or anchored at a line.
"""

from __future__ import annotations

import re

from thresher.rerank.wording import ANNOUNCES

_THOUGHT_NAME = (
    r"(?:\w{1,20}[:_.-]){0,2}(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflections?|reflect|scratchpad|analysis|"
    r"rationale|cot|chain_of_thought|thought_process|plan(?:ning)?|brainstorm(?:ing)?|drafts?|monologue|deliberation)"
)
_THOUGHT = re.compile(
    rf"[<\[\u25c1]\s?\|?\s?(?P<close>/?)\s?(?P<word>(?:begin|start|end)(?:_of)?_)?(?P<name>{_THOUGHT_NAME})"
    r"(?:\s[^<>\[\]\n]{0,80})?\s?\|?\s?[>\]\u25b7]|<unused(?P<unused>9[45])>|<\|inner_(?P<inner>prefix|suffix)\|>|"
    r"<\|?channel(?P<channel>>thought\b|\|>)",
    re.IGNORECASE,
)
_WRAPPER_NAME = r"(?:begin_of_|start_)?(?:final_?)?(?:answer|response|output|result|ranking|solution|order|final)"
_WRAPPER = re.compile(rf"[<\[]\|?{_WRAPPER_NAME}\|?[>\]]", re.IGNORECASE)
_WRAPPER_END = re.compile(
    r"[<\[]\|?(?:/|end_(?:of_)?)(?:final_?)?(?:answer|response|output|result|ranking|solution|order|final)\|?[>\]]",
    re.IGNORECASE,
)
_TURN_END = re.compile(
    r"<\|(?:im_end|im_start|eot_id|eom_id|end_of_turn|endoftext|return|end|call|start|user|assistant|"
    r"end\u2581of\u2581sentence|END_OF_TURN_TOKEN)\|>|<end_of_turn>|<start_of_turn>|</s>|\[/?INST\]|\[e~\[|"
    r"\n(?:#{2,3} ?)?(?:User|Human):"
)
_CONTROL = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</?s>|\[TOOL_CALLS\]|</?(?:tool_call|function_call|function)(?:=\w{1,60})?>"
)
_HTML = re.compile(r"</?(?:b|i|u|em|strong|p|ul|ol|code|pre|span|div|td|th|tr|table|h[1-6])(?:\s[^<>\n]{0,80})?>", re.I)
_HTML_LINE = re.compile(r"<br\s?/?>|</?li>", re.IGNORECASE)
_STRUCK = re.compile(r"~~(?=\S)[^~\n]{1,2000}~~|<(del|strike)>[^<]{0,2000}</\1>", re.IGNORECASE)
_LINKED = re.compile(r"\]\((?:https?:|#|/|\./)[^()\s]{0,300}\)")
_DETAILS = re.compile(
    rf"<details(?: open)?>\s{{0,9}}<summary>[^<]{{0,40}}\b{_THOUGHT_NAME}\b[^<]{{0,40}}</summary>", re.IGNORECASE
)
_ROLE = re.compile(r"\A\W{0,4}assistant\s?:\s", re.IGNORECASE)
_EMPHASIS = re.compile(r"(?<!\w)_{1,3}(?=\w)|(?<=[\w.\])`])_{1,3}(?!\w)|\$\$")
_FENCED_THOUGHT = re.compile(rf"^\s*```+\s?{_THOUGHT_NAME}\s*$.*?(?:^\s*```+\s*$|\Z)", re.M | re.S | re.I)
_FENCE = re.compile(r"^[ \t]*(?:```+|~~~+)[ \t]*[\w-]*[ \t]*$", re.MULTILINE)
_HEADING = r"^[\s#>*_-]{0,12}(?:\d{1,2}[.)]\s)?(?:here(?:'s| is) )?(?:my |the )?"
_REASONS = re.compile(
    _HEADING + r"(?:detailed |brief |step[- ]by[- ]step )?(?:reasoning|analysis|thoughts?|thinking|thought process|"
    r"explanations?|rationale|justification|notes?|scratchpad|comparison|assessment|observations?)[*_\s]*(:|$)",
    re.IGNORECASE,
)
_ANSWERS = re.compile(
    _HEADING + r"(?:final |overall |revised )?(?:answer|ranking|ranked list|order|result|response|output|conclusion|"
    r"verdict|permutation|solution)s?(?: is)?[*_\s]*(?::|$)",
    re.IGNORECASE,
)
_SIGNS = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | str.maketrans(
    dict.fromkeys("\u3010\u3014\u300c\u300e\u300a", "[") | dict.fromkeys("\u3011\u3015\u300d\u300f\u300b", "]")
    | dict.fromkeys("\u3009\u203a\u276f", ">") | dict.fromkeys("\u3008\u2039", "<") | {"\u3002": "."}
    | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", "")
)  # fmt: skip


def strip_reasoning(text: str) -> str:
    """The answer without the reasoning in tags or channels; reasoning without an end leaves nothing."""
    if "<|channel|>" in text:
        return _final_channel(text)
    text = _without_details(text)
    if re.match(r"analysis(?=[A-Z\[])", text):  # harmony whose control tokens the server removed
        return text.rpartition("assistantfinal")[2].strip() if "assistantfinal" in text else ""
    kept: list[str] = []
    opened, start = "", 0
    for tag in _THOUGHT.finditer(text):
        name, closes = _thought_tag(tag)
        if closes and not opened:
            kept = []  # everything before belongs to a thought whose beginning is not shown
            start = tag.end()
        elif closes and name == opened:
            opened, start = "", tag.end()
        elif not closes and not opened:
            kept.append(text[start : tag.start()])
            opened = name
    if not opened:
        kept.append(text[start:])
    return "\n".join(kept).strip()


def answer_of(text: str) -> str:
    """The answer without reasoning, wrappers and what follows the model's turn, in ASCII digits and signs."""
    text = strip_reasoning(_ascii_signs(text))
    end = next((turn for turn in _TURN_END.finditer(text) if text[: turn.start()].strip("\ufeff \n")), None)
    text = text[: end.start()] if end is not None else text
    if opened := list(_WRAPPER.finditer(text)):
        text = _WRAPPER_END.split(text[opened[-1].end() :], maxsplit=1)[0]
    text = _FENCED_THOUGHT.sub("\n", _ROLE.sub("", _CONTROL.sub(" ", text).strip()))
    return _without_reasons(_boxed(text)).strip()


def _without_details(text: str) -> str:
    """The text without `<details>` under a summary that speaks of thought."""
    kept: list[str] = []
    start = 0
    for opening in _DETAILS.finditer(text):
        if opening.start() < start:
            continue
        end = text.find("</details>", opening.end())
        if end < 0:
            return "".join([*kept, text[start : opening.start()]])
        kept.append(text[start : opening.start()])
        start = end + len("</details>")
    return "".join([*kept, text[start:]])


def _thought_tag(tag: re.Match[str]) -> tuple[str, bool]:
    """The name of a thinking tag, and whether it closes."""
    if tag["unused"] or tag["inner"] or tag["channel"]:
        return tag[0][:3], tag["unused"] == "95" or tag["inner"] == "suffix" or tag["channel"] == "|>"
    return tag["name"].casefold(), bool(tag["close"]) or (tag["word"] or "").casefold().startswith("end")


def _final_channel(text: str) -> str:
    """The text of the last harmony channel that is not the analysis; "" if there is none."""
    for part in reversed(text.split("<|channel|>")[1:]):
        head, _, body = part.partition("<|message|>")
        called = head.split()[:1] == ["commentary"] and "to=" in head  # else it is a remark before a call
        if called or head.split()[:1] not in (["analysis"], ["commentary"], []):
            return body.strip()
    return ""


def _ascii_signs(text: str) -> str:
    """Full-width and other scripts' digits, brackets and signs as ASCII; ① as [1]; HTML and Markdown escapes undone."""
    text = text.translate(_SIGNS)
    if not text.isascii():
        text = "".join(str(int(c)) if c.isdecimal() and not c.isascii() else c for c in text)
        text = re.sub("[\u2460-\u2473]", lambda found: f"[{ord(found[0]) - 0x245F}]", text)
        text = re.sub(r"\u7b2c\s?(\d{1,2})\s?[\u540d\u4f4d]|(?<!\w)(\d{1,2})[\u4f4d\uc704]", _place_sign, text)
    text = text.replace("&gt;", ">").replace("&lt;", "<").replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"\${1,2}([^$\n]*\\(?:succ|gt)\b[^$\n]*)\${1,2}", r"\1", text)
    return re.sub(r"\\([\[\]>=*_])", r"\1", text)


def _place_sign(found: re.Match[str]) -> str:
    """A place in Chinese, Japanese or Korean as one of a list."""
    return f"{found[1] or found[2]}. "


def _boxed(text: str) -> str:
    r"""The content of the last `\boxed{}`, or the text."""
    at = text.rfind("\\boxed{")
    if at < 0:
        return text
    depth, start = 0, at + len("\\boxed")
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return re.sub(r"\\(?:text|math)(?:bf|rm|it|tt|sf)?\{([^{}]*)\}", r"\1", text[start + 1 : index])
    return text[start + 1 :]


def _without_reasons(text: str) -> str:
    """The text without the sections under headings such as "Reasoning:"."""
    kept: list[str] = []
    inside, inline, blank = False, False, False
    for line in text.split("\n"):
        reasons = _REASONS.match(line[:120])
        if reasons is not None:
            inside, inline = True, bool(line[reasons.end() :].strip(" *_"))
        elif inside and (_ANSWERS.match(line[:120]) or (inline and not line.strip()) or (blank and _announced(line))):
            inside = False
        blank = not line.strip()
        if not inside:
            kept.append(line)
    return "\n".join(kept)


def _announced(line: str) -> bool:
    """Whether a line begins with the announcement of a ranking, up to a colon."""
    head, colon, _ = line[:160].partition(":")
    return bool(colon) and ANNOUNCES.search(head) is not None


def plain_text(text: str) -> str:
    """The text without fences, HTML and the targets of links, and without what is struck out."""
    text = _EMPHASIS.sub("", _STRUCK.sub(" ", text))
    return _LINKED.sub("]", _HTML.sub("", _HTML_LINE.sub("\n", _FENCE.sub("", text))))
