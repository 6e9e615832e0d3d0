"""Junk rules: passages that no query can want, each with the reason.

The rules look only at characters, and each can be checked by eye. They are strict on purpose: a rule that fires on a
passage someone needs is worse than junk that stays.

    empty        no letter and no digit
    no-letters   fewer than a tenth of at least 20 visible characters are letters, and there is no word: numbers, rulers
    markup       at least three quarters of the characters are in HTML tags and entities, and few words are between
    boilerplate  a short passage that is mostly menu, cookie, copyright or log-in phrases
    script       fewer than half of the letters are of the given scripts (only if scripts are given)
    repeated     one word makes up more than half of at least 20 words
    truncated    fewer than `least_words` words and no sentence end (only if `least_words` is set)
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import shown
from thresher.errors import ArtifactError, InputError
from thresher.quality.estimator import QualityEstimator, digest, no_argument
from thresher.quality.lexical import words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.quality.estimator import Json

REASONS = ("empty", "no-letters", "markup", "boilerplate", "script", "repeated", "truncated")

_MARKUP = re.compile(
    r"</?(?:a|abbr|b|body|br|button|center|div|em|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|li|link|"
    r"meta|nav|ol|option|p|path|script|section|select|small|span|strong|style|sub|sup|svg|table|tbody|td|th|thead|tr|u|ul)"
    r"(?:\s[^<>\n]{0,400})?/?>|<\w[\w:-]*(?:\s+[\w:-]+=(?:\"[^\"<>]*\"|'[^'<>]*'))+\s*/?>|&(?:[a-zA-Z]{2,8}|#\d{1,6});",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{3}")
_FEW = 8
"""With at least this many words beside it, markup is about something."""
_BOILERPLATE = re.compile(
    r"all rights reserved|copyright (?:©|\(c\)|\d{4})|terms of (?:use|service)|privacy policy|cookie(?:s| policy)|"
    r"(?:log|sign) ?(?:in|up|out)\b|subscribe|newsletter|click here|skip to (?:main )?content|"
    r"share on (?:facebook|twitter)|back to top|add to cart|page not found|enable javascript|loading\.\.\.|"
    r"read more|site ?map|contact us|about us",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?。！？…][\"')\]»”’]*\s*$")


@checked_call
@dataclass(frozen=True, slots=True)
class JunkRules(QualityEstimator):
    """The rules, as a filter with reasons and as an estimator (0 for junk, 1 for the rest).

    Attributes:
        scripts: Unicode script names as they begin character names, upper case (`LATIN`, `CYRILLIC`, `CJK`); empty
            allows any script.
        least_words: shorter passages that do not end a sentence count as truncated; 0 switches the rule off.
    """

    scripts: tuple[str, ...] = ()
    least_words: int = 0

    def __post_init__(self) -> None:
        for script in self.scripts:
            if not script or script != script.upper():
                raise InputError(
                    f"{script!r} is not a script name; give the upper-case name, such as LATIN or CYRILLIC"
                )

    @property
    def name(self) -> str:
        """`junk`."""
        return "junk"

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the rules and their settings."""
        return digest("junk", 2, list(self.scripts), self.least_words)

    @property
    def can_save(self) -> bool:
        """True."""
        return True

    def document(self, directory: Path) -> dict[str, object]:
        """The settings."""
        return {"type": "junk", "scripts": list(self.scripts), "least_words": self.least_words}

    @classmethod
    @checked_call
    def read(cls, document: Json, directory: Path) -> JunkRules:
        """Read what `save` wrote."""
        try:
            return cls(tuple(document["scripts"]), int(document["least_words"]))
        except (IndexError, KeyError, TypeError, ValueError) as err:
            raise ArtifactError(f"{directory}: the settings of the junk rules are damaged: {shown(document)}") from err

    @checked_call
    def reason(self, text: str) -> str:
        """The first rule that fires on `text` (one of `REASONS`), or the empty string."""
        visible = len(text) - sum(map(text.count, (" ", "\n", "\t")))
        letters = [c for c in text if c.isalpha()]
        words = words_of(text)
        fires: dict[str, Callable[[], object]] = {
            "empty": lambda: not letters and not any(c.isdigit() for c in text),
            "no-letters": lambda: visible >= 20 and len(letters) < visible / 10 and not _WORD.search(text),
            "markup": lambda: _mostly_markup(text),
            "boilerplate": lambda: _mostly_boilerplate(text, words),
            "script": lambda: self.scripts and sum(_script(c) in self.scripts for c in letters) * 2 < len(letters),
            "repeated": lambda: len(words) >= 20 and Counter(words).most_common(1)[0][1] * 2 > len(words),
            "truncated": lambda: len(words) < self.least_words and not _SENTENCE_END.search(text),
        }
        return next((reason for reason in REASONS if fires[reason]()), "")

    @checked_call
    def reasons(self, texts: Iterable[str]) -> list[str]:
        """`reason` of each text."""
        return [self.reason(text) for text in texts]

    @checked_call
    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n]: 0 where a rule fires, else 1."""
        return np.array([not self.reason(text) for text in texts], np.float32)


def _mostly_markup(text: str) -> bool:
    """Whether hardly anything but tags is there. Code, links and tables are not markup: somebody looks for them."""
    inside = sum(len(found) for found in _MARKUP.findall(text))
    return inside * 4 >= len(text) * 3 and len(words_of(_MARKUP.sub(" ", text))) < _FEW


def _mostly_boilerplate(text: str, words: Sequence[str]) -> bool:
    if len(words) > 80:
        return False
    phrases = _BOILERPLATE.findall(text)
    return len(phrases) >= 2 and sum(len(words_of(p)) for p in phrases) * 4 >= len(words)


@lru_cache(maxsize=65536)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def open_junk(argument: str = "") -> JunkRules:
    """What `QualityEstimator.from_name` calls for `junk`."""
    no_argument("junk", argument)
    return JunkRules()
