"""Bytes of a document to text: by byte order mark, by the charset that it declares, as UTF-8, or as Windows-1252.

Offsets of passages count code points of this text: `path.read_bytes().decode(encoding)` gives it, line ends untouched.
"""

from __future__ import annotations

import codecs
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_META = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{2,30})|<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{2,30})""",
    re.IGNORECASE,
)
_COOKIE = re.compile(rb"^[ \t\f]*#[^\n]{0,200}?coding[:=][ \t]*([-\w.]{2,30})", re.MULTILINE)
_HEAD = 2048
"""Bytes in which a charset is declared."""
_SAMPLE = 8192
_CONTROLS = bytes(sorted(frozenset(range(32)) - frozenset(b"\t\n\r\f\v\b\x1b")))
FALLBACK = ("cp1252", "latin-1")
"""Encodings of bytes that are not UTF-8 and declare nothing: the Web's, and one that any byte is text in."""


def is_binary(data: bytes) -> bool:
    """Whether bytes are no text: a NUL without the mark of UTF-16 or UTF-32, or many control characters."""
    if data.startswith(tuple(mark for mark, _ in _MARKS[1:])):
        return False
    sample = data[:_SAMPLE]
    return b"\0" in sample or len(sample) - len(sample.translate(None, _CONTROLS)) > len(sample) // 20


def decode(data: bytes, *, declares: str = "") -> tuple[str, str]:
    """The text of a file and the encoding that it was read by.

    Args:
        data: all of it.
        declares: how such files name a charset: `html` or `python`; empty for not at all.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding), encoding
            except UnicodeDecodeError:
                break
    declared = _declared(data, declares)
    for encoding in dict.fromkeys((*((declared,) if declared else ()), "utf-8", *FALLBACK)):
        try:
            return data.decode(encoding), encoding
        except (UnicodeDecodeError, LookupError):
            continue
    raise AssertionError("latin-1 has a character for every byte")


def _declared(data: bytes, kind: str) -> str:
    """The name of the encoding that a file declares, as Python has it; empty if none that is known."""
    if kind == "html":
        found = _META.search(data[:_HEAD])
    elif kind == "python":
        found = _COOKIE.search(b"\n".join(data[:_HEAD].split(b"\n", 2)[:2]))
    else:
        return ""
    label = (found[1] or found[found.lastindex or 1]).decode("ascii", "replace") if found else ""
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return ""
    if name.startswith(("utf-16", "utf-32")):
        return "utf-8"  # as the HTML standard has it: the declaration itself was readable as ASCII
    if not codecs.lookup(name)._is_text_encoding:
        return ""
    return "cp1252" if name in ("iso8859-1", "ascii") else name
