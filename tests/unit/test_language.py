"""Documents, help, errors, docstrings and comments use the field's words, not private ones."""

import io
import re
import tokenize
from pathlib import Path

import pytest

import thresher

ROOT = Path(__file__).parents[2]
SOURCE = Path(thresher.__file__).parent

BANNED = {
    "for want of": "say what is missing: 'deadline reached', 'not measured (time budget)'",
    "in vain": "say what failed",
    "nobody": "use the passive: 'unjudged', or name who",
    "stands at": "use 'is'",
    "as it stands": "use 'as reported', 'currently'",
    "whole or not at all": "use 'atomically'",
    "what there is of": "name it",
    r"f[ae]ll(?:s|ing)? through": "use 'escalate to the second tier'",
    "head of the ranking": "use 'top-k' or 'first passages'",
    "in doubt": "say what is uncertain",
    "purse": "use 'budget'",
    r"tall(?:y|ies)": "use 'usage' or 'count'",
    "kin": "use 'group'",
    "ledger": "use 'usage'",
    "tidy": "use 'normalise'",
    "so many": "give the number, or 'at most n'",
    "wishes?": "use 'setting'",
    "stranger": "use 'unknown identifier'",
    "foretells?": "use 'predicts'",
    "one too many": "say which one to remove",
    r"(?<!there )is no (?!longer|slower|faster|more|less|larger|smaller|worse|better)\w+": "use 'is not a ...'",
    "questions?": "use 'query'",
}
PATTERN = re.compile("|".join(rf"\b(?P<_{n}>{pattern})\b" for n, pattern in enumerate(BANNED)), re.IGNORECASE)

ALLOWED = {
    "cli/context.py": {"question": "a field of data sets"},
    "context/calibrate.py": {"question": "a field of data sets"},
    "docs/context.md": {"question": "one in a text, which an answer follows"},
    "context/blocks.py": {"question": "one in a text, which an answer follows"},
    "context/structure.py": {"question": "one in a text, which an answer follows", "questions": "the same"},
    "quality/lexical.py": {"question": "a question mark", "questions": "the name of the feature that counts them"},
    "evaluate/locations.py": {"questions": "in the name of a collection"},
    "llm/budget.py": {"ledger": "BudgetLedger"},
    "llm/client.py": {"ledger": "BudgetLedger"},
    "llm/": {"question": "what a decision model is asked", "questions": "the same"},
    "rerank/": {"question": "what a plan asks of a judge", "questions": "the same"},
    "cli/rerank_options.py": {"question": "what a decision model is asked", "questions": "the same"},
    "cli/rerank.py": {"questions": "what a plan asks of a judge"},
    "docs/decisions.md": {"question": "what a decision model is asked", "questions": "the same"},
    "docs/rerank.md": {"questions": "what a plan asks of a judge"},
}
"""File, or folder, to phrases that may be in it, with the reason."""


def allowed(file):
    """The phrases that may be in a file."""
    return {phrase for place, phrases in ALLOWED.items() if within(file, place) for phrase in phrases}


def within(file, place):
    return file.startswith(place) if place.endswith("/") else file == place


def texts():
    """(file, line, text) of everything a reader reads: whole documents; string literals and comments of the source."""
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"):
        if file.is_file():
            yield file.name, 1, file.read_text(encoding="utf-8")
    for file in sorted((ROOT / "docs").rglob("*.md")):
        if file.relative_to(ROOT / "docs").parts[0] not in {"api", "results", "_build"}:
            yield file.relative_to(ROOT).as_posix(), 1, file.read_text(encoding="utf-8")
    for file in sorted(SOURCE.rglob("*.py")):
        for token in tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline):
            if token.type in (tokenize.STRING, tokenize.COMMENT):
                yield file.relative_to(SOURCE).as_posix(), token.start[0], token.string


def found_in(text):
    """(line within the text, phrase, advice) of each banned phrase."""
    for match in PATTERN.finditer(text):
        advice = list(BANNED.values())[int(match.lastgroup[1:])]
        yield text.count("\n", 0, match.start()), match.group(), advice


def test_no_document_and_no_text_of_the_source_uses_a_banned_phrase():
    problems = [
        f"{file}:{start + line}: {phrase!r}: {advice}"
        for file, start, text in texts()
        for line, phrase, advice in found_in(text)
        if phrase.lower() not in allowed(file)
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("file", ALLOWED)
def test_every_exception_is_used(file):
    used = {phrase.lower() for name, _, text in texts() if within(name, file) for _, phrase, _ in found_in(text)}
    assert set(ALLOWED[file]) <= used


def test_a_banned_phrase_is_found():
    assert [phrase for _, phrase, _ in found_in("skipped\nfor want of time, in vain; whatever asks queries")] == [
        "for want of",
        "in vain",
    ]
