"""Where the sentences of a row of tokens begin: the rules of syntok's segmenter, in time linear in the tokens.

syntok (MIT, https://github.com/fnl/syntok) looks up to 50 tokens ahead of each bracket for the one that closes it, up
to four times, so a text of brackets that nothing closes takes up to 140 microseconds a character. Here the brackets are
paired once. The word lists are syntok's own, and a test compares the starts with those of its segmenter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from syntok.tokenizer import Token

_WINDOW = 50
"""A bracket that is closed this number of tokens later, or more, counts as open."""


def segment_starts(tokens: Iterable[Token]) -> Iterator[int]:
    """The offsets of the first tokens of sentences, ascending, as `syntok.segmenter.segment` finds them.

    Args:
        tokens: as syntok's tokenizer gives them.
    """
    return _Segmenter(list(tokens)).starts()


class _Segmenter:
    """Goes through tokens once; `_at` is the next one, `_begin` the first of the sentence."""

    def __init__(self, tokens: list[Token]) -> None:
        from syntok.segmenter import State

        self._rules = State
        self._tokens = tokens
        self._values: list[str] = [token.value for token in tokens]
        self._at = self._begin = 0
        self._pair()

    def _pair(self) -> None:
        """Find the token that closes each bracket, and the letters and digits around each token."""
        values, rules = self._values, self._rules
        self._closes = [0] * len(values)
        self._word_before, self._word_from = [-1] * len(values), [len(values)] * len(values)
        opened: list[int] = []
        word = -1
        for place, value in enumerate(values):
            if value in rules.opening_brackets:
                opened.append(place)
            elif value in rules.closing_brackets and opened:
                self._closes[opened.pop()] = place
            self._word_before[place] = word
            if value.isalnum():
                word = place
        word = len(values)
        for place in range(len(values) - 1, -1, -1):
            if values[place].isalnum():
                word = place
            self._word_from[place] = word

    def starts(self) -> Iterator[int]:
        """The offsets of the sentences' first tokens."""
        first = True
        while self._at < len(self._values):
            ended, first = self._after_first() if first else self._after_inner()
            if ended:
                yield from self._sentence()
                first = True
        yield from self._sentence()

    def _sentence(self) -> Iterator[int]:
        """The start of the tokens passed since the last sentence, unless there are none or they are empty."""
        if self._at > self._begin + 1 or (self._at > self._begin and self._values[self._begin]):
            yield self._tokens[self._begin].offset
        self._begin = self._at

    def _after_first(self) -> tuple[bool, bool]:
        """Whether a sentence ends after its first token, else whether the next token counts as its first too."""
        if self._opens() and self._skip() and self._at > self._begin + 3 and not self._next()[:1].islower():
            return True, True
        if self._at == len(self._values):
            return False, True
        self._at += 1
        if self._next() in self._rules.terminals or self._next() == "(":
            return self._ends(first=True), True
        return False, False

    def _after_inner(self) -> tuple[bool, bool]:
        """The same for a later token."""
        self._at += 1
        if self._opens():
            self._skip()
        if self._next() in self._rules.terminals or self._opens():
            return self._ends(first=False), False
        return False, False

    def _next(self) -> str:
        """The next token; empty behind the last."""
        return self._values[self._at] if self._at < len(self._values) else ""

    def _last(self) -> str:
        """The last token of the sentence so far; empty where it has none."""
        return self._values[self._at - 1] if self._at > self._begin else ""

    def _opens(self) -> bool:
        return self._next() in self._rules.opening_brackets

    def _close(self) -> int:
        """Where the bracket that comes next is closed; 0 if that is too far."""
        close = self._closes[self._at]
        return close if close - self._at < _WINDOW else 0

    def _holds_sentence(self, close: int) -> bool:
        """Whether the text in the bracket that comes next begins with a capital, and its last word ends a sentence."""
        first, last = self._word_from[self._at + 1], self._word_before[close]
        if first >= last or not self._values[first].istitle():
            return False
        return self._values[last + 1] in self._rules.terminals

    def _skip(self) -> bool:
        """Pass over the bracketed text that comes next, unless it is long and looks like a sentence."""
        close = self._close()
        if not close:
            return False
        token = self._tokens[close]
        length = token.offset + len(token.value) - self._tokens[self._at].offset
        if length >= self._rules.max_bracket_skipping_length and self._holds_sentence(close):
            return False
        self._at = close + 1
        return True

    def _ends(self, *, first: bool) -> bool:
        """Go past the stop, or the bracketed text, that comes next; whether the sentence ends there."""
        rules, before = self._rules, self._last()
        if not self._opens():
            self._at += 1
        after, following = self._after_stop(), self._next()
        short = len(before) == 1 or before in rules.roman_numerals
        spaced = self._at == len(self._values) or bool(self._tokens[self._at].spacing)
        if following[:1].islower() or following in rules.inner_sentence_punctuation:
            return False
        if following in rules.starters and not (first and short):
            return True
        numbered = any(map(str.isnumeric, following)) and following.isalnum()
        goes_on = (
            (before in rules.abbreviations and after not in rules.closing_brackets)
            or (before in ("no", "No", "NO") and numbered)
            or (following.isnumeric() and (not spaced or len(following) > 2 or before in rules.months))
            or (not spaced and (not after.istitle() or not after.isalpha() or len(after) == 1))
            or (before.isnumeric() and following in rules.months)
            or ("." in before and after != ".")
            or ((first or before.isupper()) and short)
            or (len(before) == 1 and before.isalpha() and before not in rules.vowels)
        )
        if goes_on or after not in rules.opening_brackets:
            return not goes_on
        return self._ends_before_bracket()

    def _ends_before_bracket(self) -> bool:
        """Whether a sentence ends before the bracketed text that comes next."""
        close = self._close()
        beyond = ""
        if close and close + 1 < len(self._values) and not self._holds_sentence(close):
            beyond = self._values[close + 1]
        if beyond in self._rules.inner_sentence_punctuation:
            return False
        inside = self._values[self._at + 1] if self._at + 1 < len(self._values) else ""
        return inside.istitle() or not beyond[:1].islower()

    def _after_stop(self) -> str:
        """Go past what belongs to the stop before; the token that tells most of what follows it."""
        rules, found = self._rules, ""
        if self._opens() and self._last() not in rules.terminals:
            self._skip()
            return self._next()
        for quote in (True, False):
            found = self._past_marks(found)
            unspaced = self._at < len(self._values) and not self._tokens[self._at].spacing
            if quote and self._next() in rules.closing_quotes and unspaced:
                found = self._moved(found)
        return self._next() if self._opens() or not found else found

    def _past_marks(self, found: str) -> str:
        """Go past stops and closing brackets."""
        while self._next() in self._rules.terminals or self._next() in self._rules.closing_brackets:
            found = self._moved(found)
        return found

    def _moved(self, found: str) -> str:
        """Go past a token, which is what follows the stop if nothing was found before and something comes after."""
        self._at += 1
        return found or (self._last() if self._at < len(self._values) else "")
