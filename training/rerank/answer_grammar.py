"""Answers of which the intended order is known: a random grammar of what models write when asked to order passages.

`write` draws one answer. Its parts are drawn apart and put together: thought in a wrapping, a lead-in, the order itself
(a chain, a list, a table, JSON, sentences, places for each label), a correction, a closing remark, a markdown wrapper,
control tokens, the digits of another script. The parser does not share any of it.

Three classes:

`plain`
    Says its order in one way that a person would not doubt.
`hard`
    Says an order in a way that a reader may decline: worst first, scores alone. It must not be read as another order.
`orderless`
    Says none: refusals, examples, thoughts without an end, the order of the input.

Where two readings are honest the grammar does not claim one: it has no numbered list of bare numbers, no letters of
another alphabet that look like Latin ones, no cut number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from training.rerank import answer_phrases as said

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from thresher.rerank.plans.plan import Answer

Class = Literal["plain", "hard", "orderless"]
Verdict = Literal["right", "unreadable", "wrong"]
Tiers = tuple[tuple[str, ...], ...]
SCRIPTS = {
    "arabic-indic": 0x660, "persian": 0x6F0, "devanagari": 0x966, "bengali": 0x9E6, "full-width": 0xFF10, "thai": 0xE50,
}  # fmt: skip
_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
).split()
_HAN = "\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341"
_KEYS = (
    "ranking", "order", "ranked", "result", "results", "ranked_ids", "ranked_passages", "final_ranking", "answer",
    "permutation", "sorted", "ranked_list", "output", "Ranking", "rankedPassages", "passage_ranking", "best_to_worst",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """An answer and what it means.

    Attributes:
        text: the answer.
        labels: the labels of the passages, in the order shown.
        tiers: the labels it names, best first; empty if it intends no order.
        kind: the class.
        parts: what it is made of: the form of the order, its ids, and the parts around it.
        level: whether ties count; a range such as "4-7" may be read as a tie or as an order.
    """

    text: str
    labels: tuple[str, ...]
    tiers: Tiers
    kind: Class
    parts: tuple[str, ...]
    level: bool = True


def write(rng: Random, kind: Class = "plain", *, phrases: Literal["known", "fresh", "all"] = "all") -> Written:
    """Draw an answer.

    Args:
        rng: the only source of chance.
        kind: the class.
        phrases: `fresh` keeps every fifth phrase of a list, `known` the others: what one is mended with, the other can
            measure.
    """
    return _Writer(rng, kind, phrases).written()


def verdict(written: Written, read: Callable[[str, tuple[int, ...], tuple[str, ...]], Answer | None]) -> Verdict:
    """How an answer is read: `right`, `unreadable` or `wrong`. An answer without an order is right if it is unreadable.

    Args:
        written: the answer.
        read: given the text, the positions shown and their labels, what `thresher.rerank.parsing.read_order` returns.
    """
    shown = tuple(range(len(written.labels)))
    answer = read(written.text, shown, written.labels)
    if answer is None:
        return "unreadable" if written.tiers else "right"
    position = dict(zip(written.labels, shown, strict=True))
    tiers = [sorted(position[label] for label in tier) for tier in written.tiers]
    if not written.level:
        tiers = [[item] for tier in tiers for item in tier]
    named = {item for tier in tiers for item in tier}
    tiers += [[item] for item in shown if item not in named]
    found = [sorted(tier) for tier in answer.tiers] if written.level else [[item] for item in answer.order]
    return "right" if written.tiers and found == tiers else "wrong"


def han(number: int) -> str:
    """1 to 99 in Chinese numerals."""
    tens, ones = divmod(number, 10)
    return ("" if tens < 2 else _HAN[tens - 1]) + ("\u5341" if tens else "") + (_HAN[ones - 1] if ones else "")


def ending(place: int) -> str:
    """1st, 2nd, 3rd ..."""
    teens = 10 < place % 100 < 14
    return f"{place}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th')}"


class _Writer:
    """One answer in the making."""

    def __init__(self, rng: Random, kind: Class, phrases: Literal["known", "fresh", "all"]) -> None:
        self.rng, self.kind, self.phrases = rng, kind, phrases
        self.parts: list[str] = []
        self.level = True
        letters = rng.random() < 0.2
        count = rng.choice((2, 3, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 20))
        self.labels = tuple(chr(65 + i) if letters else str(i + 1) for i in range(count))
        self.letters = letters
        self.order = rng.sample(self.labels, count)
        if count > 3 and self.chance(0.12):
            self.order = self.order[: rng.randint(max(2, count // 3), count - 1)]
            self.parts.append("partial")

    # Chance

    def chance(self, rate: float) -> bool:
        return self.rng.random() < rate

    def pick(self, phrases: Sequence[str]) -> str:
        """A phrase of a list, of the part of it that this answer may use."""
        if self.phrases != "all":
            wanted = self.phrases == "fresh"
            kept = [phrase for place, phrase in enumerate(phrases) if (place % 5 == 4) == wanted]
            phrases = kept or phrases
        return self.rng.choice(phrases)

    def filled(self, phrase: str, among: Sequence[str] = ()) -> str:
        a, b = self.rng.sample(among or self.labels, 2)
        return phrase.format(a=a, b=b, n=len(self.labels), k=len(self.order), chain=self.other_chain())

    def other_chain(self) -> str:
        return " > ".join(f"[{label}]" for label in self.rng.sample(self.labels, len(self.labels)))

    # The whole

    def written(self) -> Written:
        if self.kind == "orderless":
            text = self.filled(self.pick(said.ORDERLESS))
            return Written(text, self.labels, (), "orderless", ("orderless",))
        if self.kind == "hard":
            return self.hard()
        name = self.rng.choices(list(_FORMS), [weight for weight, _ in _FORMS.values()])[0]
        self.parts.append(name)
        tiers, core, block = _FORMS[name][1](self)
        core = self.corrected(core, name)
        if name != "json" and self.chance(0.06) and not self.letters:
            script = self.rng.choice(sorted(SCRIPTS))
            core = core.translate({48 + i: SCRIPTS[script] + i for i in range(10)})
            self.parts.append("script")
        if self.chance(0.2):
            core = self.pick(said.BLOCK_WRAPPERS if block else said.WRAPPERS).format(core)
            self.parts.append("wrapper")
        text = self.around(core, block=block)
        return Written(text, self.labels, tiers, "plain", tuple(self.parts), self.level)

    def around(self, core: str, *, block: bool) -> str:
        """Lead-in, thought, analysis, closing remark, control tokens."""
        text = core
        if self.chance(0.5):
            lead = self.filled(self.pick(said.LEADS))
            joint = (
                "\n\n"
                if lead.startswith("#") or block or text.startswith(">")
                else self.rng.choice((" ", " ", "\n", "\n\n"))
            )
            text = lead + joint + text
            self.parts.append("lead-in")
        if self.chance(0.07):
            lead = "Ranking:\n" if block or text.startswith(">") else "Ranking: "
            text = f"{self.analysis()}\n\n{'' if 'lead-in' in self.parts else lead}{text}"
            self.parts.append("analysis")
        if self.chance(0.35):
            closing = self.filled(self.pick(said.CLOSINGS), self.order)
            joint = (
                "\n\n"
                if block
                else self.rng.choice(
                    ("\n\n", "\n", ". " if core[-1] not in ".`>~" and "loose" not in self.parts else "\n")
                )
            )
            text += (" " if closing.startswith("(") and not block else joint) + closing
            self.parts.append("closing")
        elif self.chance(0.05) and "partial" not in self.parts:
            text += f"\n\n{self.analysis()}"
            self.parts.append("analysis")
        if self.chance(0.3):
            thought = self.thought()
            text = (thought.rstrip() + "\n" if block and self.parts[-1] == "spoken-thought" else thought) + text
        if self.chance(0.15):
            start = self.pick(said.STARTS)
            text = text if self.letters and start == "A: " else start + text
            self.parts.append("start")
        if self.chance(0.2):
            text += self.pick(said.ENDS[:9] + said.ENDS[10:] if not block else said.ENDS[6:9])
            self.parts.append("end")
        if self.chance(0.03):
            text = text.replace("\n", "\r\n")
            self.parts.append("crlf")
        return text

    def thought(self) -> str:
        musings = [self.filled(self.pick(said.MUSINGS)) for _ in range(self.rng.randint(1, 5))]
        if self.chance(0.15):
            plain = [one for one in musings if ">" not in one and not one.startswith(("{", "1."))]
            self.parts.append("spoken-thought")
            return self.pick(said.SPOKEN_THOUGHTS).format(" ".join(plain))
        self.parts.append("thought")
        return self.pick(said.THOUGHTS).format(self.rng.choice((" ", "\n", "\n\n")).join(musings))

    def analysis(self) -> str:
        """A remark on every passage, in the order shown."""
        shape = self.rng.choice(
            ("[{}]: {}", "- [{}] {}", "Passage {}: {}", "- **Passage {}**: {}", "* Passage [{}] - {}")
        )
        remarks = [shape.format(label, self.rng.choice(said.REASONS)) for label in self.labels]
        return self.rng.choice(("", "Analysis:\n", "Let me look at each passage.\n\n")) + "\n".join(remarks)

    def corrected(self, core: str, name: str) -> str:
        """The order again, or after another one that is taken back."""
        if name != "chain":
            return core
        if self.chance(0.08):
            self.parts.append("correction")
            wrong = self.rng.sample(self.order, len(self.order))
            draft = " > ".join(f"[{label}]" for label in wrong)
            return self.pick(said.DRAFTS) + draft + self.filled(self.pick(said.CORRECTIONS)) + core
        if self.chance(0.03):
            self.parts.append("repeated")
            return core + self.pick(said.AGAIN) + core
        return core

    # Ids

    def spelling(self, *, bare: bool = True) -> Callable[[str], str]:
        """One way to write a label."""
        ways: list[tuple[float, str, Callable[[str], str]]] = [
            (40, "brackets", lambda label: f"[{label}]"),
            (3, "bold", lambda label: f"**[{label}]**"),
            (2, "round", lambda label: f"({label})"),
            (2, "cjk-brackets", lambda label: f"\u3010{label}\u3011"),
            (1, "full-width-brackets", lambda label: f"\uff3b{label}\uff3d"),
            (2, "double", lambda label: f"[[{label}]]"),
            (2, "code", lambda label: f"`{label}`"),
            (1, "quoted", lambda label: f'"{label}"'),
            (1, "spaced", lambda label: f"[ {label} ]"),
        ]
        noun = self.pick(said.NOUNS[:11] if self.letters else said.NOUNS)
        ways += [
            (10, "noun", lambda label: f"{noun}{' ' if self.letters and noun[-1].isalpha() else ''}{label}"),
            (
                5,
                "noun-brackets",
                lambda label: f"{noun.rstrip('#')}[{label}]" if noun not in ("P", "D") else f"[{label}]",
            ),
            (3, "noun-inside", lambda label: f"[Passage {label}]"),
        ]
        if bare:
            ways.append((15, "bare", lambda label: label))
        if not self.letters:
            ways += [
                (1, "hash", lambda label: f"#{label}"),
                (1, "circled", lambda label: chr(0x245F + int(label))),
                (0.5, "han", lambda label: han(int(label))),
                (0.5, "words", lambda label: f"Passage {_WORDS[int(label) - 1]}"),
                (0.5, "padded", lambda label: f"[{int(label):02}]"),
            ]
        _, name, way = self.rng.choices(ways, [weight for weight, _, _ in ways])[0]
        self.parts.append(f"id:{name}")
        return way

    # Forms: each gives the tiers, the text, and whether it spans lines

    def singles(self) -> Tiers:
        return tuple((label,) for label in self.order)

    def chain(self) -> tuple[Tiers, str, bool]:
        spell = self.spelling()
        loose = self.chance(0.25)
        joint = self.pick(said.LOOSE_SEPARATORS if loose else said.SEPARATORS)
        tiers = self.singles()
        if not loose and len(self.order) > 3 and self.chance(0.1):
            self.parts.append("ties")
            at = self.rng.randrange(len(tiers) - 1)
            tiers = (*tiers[:at], tiers[at] + tiers[at + 1], *tiers[at + 2 :])
        written = [self.rng.choice((" = ", "=")).join(map(spell, tier)) for tier in tiers]
        self.parts.append("loose" if loose else "strict")
        text = joint.join(written)
        if loose and joint == ", " and self.chance(0.3) and len(written) > 2:
            text = ", ".join(written[:-1]) + self.rng.choice((" and ", ", and ", ", then ")) + written[-1]
        return tiers, text, "\n" in joint

    def ranged(self) -> tuple[Tiers, str, bool]:
        """A chain whose tail is a range."""
        if self.letters or len(self.labels) < 5:
            return self.chain()
        self.everything()
        size = self.rng.randint(3, len(self.labels) - 2)
        first = self.rng.randint(1, len(self.labels) - size + 1)
        tail = [str(first + i) for i in range(size)]
        head = [label for label in self.rng.sample(self.labels, len(self.labels)) if label not in tail]
        self.order, self.level = head + tail, False
        shape = self.rng.choice(("[{}]-[{}]", "[{}-{}]", "[{}]\u2013[{}]", "[{}] to [{}]", "[{}] through [{}]"))
        return self.singles(), " > ".join([*(f"[{x}]" for x in head), shape.format(tail[0], tail[-1])]), False

    def numbered(self) -> tuple[Tiers, str, bool]:
        """A list with places."""
        spell, place, remark = self.spelling(bare=self.letters), self.pick(said.PLACES), self.remarks()
        lines = [place.format(p=at, o=ending(at)) + spell(label) + remark(at) for at, label in enumerate(self.order, 1)]
        return self.singles(), self.rng.choice(("\n", "\n", "\n\n")).join(lines), True

    def bulleted(self) -> tuple[Tiers, str, bool]:
        spell, bullet, remark = self.spelling(), self.pick(said.BULLETS), self.remarks()
        self.mixed()
        lines = [bullet + spell(label) + remark(at) for at, label in enumerate(self.order, 1)]
        return self.singles(), "\n".join(lines), True

    def mixed(self) -> None:
        """Draw the order again if it is that of the passages shown: a list of them with remarks may be an account."""
        while self.order == sorted(self.order, key=self.labels.index):
            self.rng.shuffle(self.order)

    def everything(self) -> None:
        """Draw an order of all labels."""
        self.order = self.rng.sample(self.labels, len(self.labels))
        self.parts = [part for part in self.parts if part != "partial"]

    def remarks(self) -> Callable[[int], str]:
        """What stands behind an id in a list: nothing, a reason, copied text, or a score that falls."""
        style = self.rng.choice(("none", "none", "reason", "copied", "score"))
        if style != "none":
            self.mixed()
        self.parts.append(f"remark:{style}")
        if style == "none":
            return lambda at: ""
        if style == "score":
            shape = self.rng.choice((" (score: {})", " ({})", " - {}", ": {}", " (relevance {})"))
            size = len(self.order)
            return lambda at: shape.format(f"{0.98 - 0.9 * at / (size + 1):.2f}")
        shape = self.rng.choice((": {}", " - {}", " \u2014 {}", " ({})", "\n   {}"))
        if style == "copied":
            return lambda at: shape.format(self.pick(said.COPIED))
        reasons = sorted((self.rng.choice(said.REASONS) for _ in self.order), key=said.REASONS.index)
        return lambda at: shape.format(reasons[at - 1])

    def table(self) -> tuple[Tiers, str, bool]:
        spell = self.spelling()
        noun = self.rng.choice(("Passage", "ID", "Document", "Passage ID", "Identifier"))
        place = self.rng.choice(("Rank", "Place", "Position", "#"))
        why = self.chance(0.4)
        rows = [
            [str(at), spell(label), *([self.rng.choice(said.REASONS)] if why else [])]
            for at, label in enumerate(self.order, 1)
        ]
        head = [place, noun, *(["Reason"] if why else [])]
        lines = [head, ["---"] * len(head), *rows]
        return self.singles(), "\n".join(f"| {' | '.join(cells)} |" for cells in lines), True

    def places(self) -> tuple[Tiers, str, bool]:
        """The place of every label, in any order."""
        self.everything()
        place = {label: at for at, label in enumerate(self.order, 1)}
        listed = self.rng.choice((self.labels, self.rng.sample(self.labels, len(self.labels))))
        if self.chance(0.3):
            lines = [f"| {label} | {place[label]} |" for label in listed]
            return self.singles(), "\n".join(["| Passage | Rank |", "|---|---|", *lines]), True
        shape = self.rng.choice(
            (
                "Passage {}: rank {}", "[{}]: rank {}", "[{}] - rank {}", "Passage {} is ranked {o}",
                "Rank of passage {}: {}", "[{}] is {o}", "Passage {}: {o} place", "[{}]: {o}", "Passage {} comes {w}",
            )
        )  # fmt: skip
        joint = self.rng.choice(("\n", "\n", ", ", "; "))
        lines = [
            shape.format(label, place[label], o=ending(place[label]), w=_ORDINALS[place[label] - 1]) for label in listed
        ]
        return self.singles(), joint.join(lines), joint == "\n"

    def sentences(self) -> tuple[Tiers, str, bool]:
        spell = self.spelling(bare=False)
        first, *rest = map(spell, self.order)
        style = self.rng.randrange(6)
        if style == 0:
            others = ", ".join(rest[:-1]) + (" and " if rest[:-1] else "") + rest[-1]
            text = f"{first} is the most relevant, followed by {others}."
        elif style == 1:
            text = f"{first} is most relevant, then " + ", then ".join(rest) + "."
        elif style == 2:
            text = f"The most relevant passage is {first}. " + " ".join(f"Next is {one}." for one in rest)
        elif style == 3:
            words = ["First", "Second", "Third", *(word.capitalize() for word in _ORDINALS[3:])]
            text = "\n".join(f"{word}: {one}" for word, one in zip(words, [first, *rest], strict=False))
        elif style == 4:
            text = f"Best: {first}; " + "; ".join(f"next: {one}" for one in rest)
        else:
            words = [f"\u7b2c{han(at)}" for at in range(1, 21)]
            text = "\n".join(f"{word}\uff1a{one}" for word, one in zip(words, [first, *rest], strict=False))
        self.parts.append(f"sentence:{style}")
        return self.singles(), text, "\n" in text

    def json(self) -> tuple[Tiers, str, bool]:
        style = self.rng.choice(
            "list object object nested records ranked-records map numbered-map extra loose python".split()
        )
        self.parts.append(f"json:{style}")
        as_text = self.letters or self.chance(0.4)
        if style == "records":
            self.mixed()
        shape = self.rng.choice(("{}", "{}", "[{}]", "Passage {}", "passage_{}"))
        ids: list[str | int] = [shape.format(label) if as_text else int(label) for label in self.order]
        key, indent = self.pick(_KEYS), self.rng.choice((None, None, 2))
        document: object = ids
        name = self.rng.choice(("id", "passage_id", "passage", "docid", "identifier", "index"))
        if style in ("object", "loose"):
            document = {key: ids}
        elif style == "nested":
            document = {"result": {key: ids}}
        elif style == "records":
            document = {key: [{name: one, "reason": self.rng.choice(said.REASONS)} for one in ids]}
        elif style == "ranked-records":
            records = [{"rank": at, name: one} for at, one in enumerate(ids, 1)]
            document = self.rng.sample(records, len(records)) if self.chance(0.5) else records
        elif style == "map":
            self.everything()
            place = {label: at for at, label in enumerate(self.order, 1)}
            document = {shape.format(label): place[label] for label in self.labels}
        elif style == "numbered-map":
            document = {f"rank_{at}": one for at, one in enumerate(ids, 1)}
        elif style == "extra":
            document = {
                "question": "What was found in 1898?",
                key: ids,
                "confidence": 0.9,
                "explanation": self.pick(said.COPIED),
            }
        text = json.dumps(document, indent=indent, ensure_ascii=self.chance(0.5))
        if style == "loose":
            text = text.replace("]}", ",]}") if self.chance(0.5) else text.replace('"', "'")
        elif style == "python":
            text = f"{self.rng.choice(('ranking', 'order', 'ranked_passages'))} = {ids}"
        if self.chance(0.5):
            text = (
                f"```{self.rng.choice(('json', '', 'JSON', 'python' if style == 'python' else 'json5'))}\n{text}\n```"
            )
        return self.singles(), text, True

    def hard(self) -> Written:
        self.order = self.rng.sample(self.labels, len(self.labels))
        spell = self.spelling(bare=False)
        style = self.rng.randrange(4)
        upwards = [spell(label) for label in reversed(self.order)]
        if style == 0:
            text = f"{self.pick(said.WORST_FIRST)} " + self.rng.choice((" > ", ", ", "\n")).join(upwards)
        elif style == 1:
            text = " < ".join(upwards)
        elif style == 2:
            score = {label: 100 - 4 * at for at, label in enumerate(self.order)}
            text = "Relevance scores:\n" + "\n".join(f"{spell(label)}: {score[label]}/100" for label in self.labels)
        else:
            score = {label: 100 - 4 * at for at, label in enumerate(self.order)}
            text = json.dumps({"scores": {label: score[label] for label in self.labels}})
        return Written(text, self.labels, self.singles(), "hard", (*self.parts, f"hard:{style}"))


_FORMS: dict[str, tuple[float, Callable[[_Writer], tuple[Tiers, str, bool]]]] = {
    "chain": (46, _Writer.chain),
    "numbered": (16, _Writer.numbered),
    "bulleted": (5, _Writer.bulleted),
    "table": (4, _Writer.table),
    "places": (4, _Writer.places),
    "sentences": (6, _Writer.sentences),
    "json": (18, _Writer.json),
    "ranged": (1, _Writer.ranged),
}
