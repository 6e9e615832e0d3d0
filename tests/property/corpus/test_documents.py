"""Documents of every format become passages that lose no word of the body, repeat none, and know where they are."""

import html
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.corpus.files.folder import FileCorpus
from thresher.corpus.files.hypertext import read_html
from thresher.corpus.files.markdown import read_markdown
from thresher.corpus.files.packing import pieces
from thresher.corpus.files.plain import read_plain
from thresher.corpus.files.restructured import read_rst
from thresher.corpus.files.source import read_python, read_source
from thresher.corpus.split import token_count

LETTERS = "abcdefghijklmnopqrstuvwxyz\u00e4\u00f6\u00e9\u0142"
KINDS = ("paragraph", "paragraph", "list", "code", "table", "heading", "heading")


@st.composite
def outlines(draw):
    """Blocks (kind, level, lines of words), every word of which is unique."""
    made = []
    number = 0

    def words(least, most):
        nonlocal number
        count = draw(st.integers(least, most))
        out = []
        for _ in range(count):
            number += 1
            out.append(f"{LETTERS[number * 7 % len(LETTERS)]}{LETTERS[number % 13]}q{number}z")
        return out

    depth = 0
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=14)):
        if kind == "heading":
            depth = draw(st.integers(1, min(depth + 1, 4)))
            made.append((kind, depth, [words(1, 4)]))
        elif kind == "paragraph":
            ends = draw(st.sampled_from([".", ".", ":", "!"]))
            made.append((kind, 0, [[*words(1, 30), ends] for _ in range(draw(st.integers(1, 3)))]))
        else:
            made.append((kind, 0, [words(1, 6) for _ in range(draw(st.integers(1, 6)))]))
    return made


def sentence(words):
    return " ".join(words).replace(" .", ".").replace(" :", ":").replace(" !", "!")


def as_markdown(outline):
    out = []
    for kind, level, lines in outline:
        texts = [sentence(line) for line in lines]
        if kind == "heading":
            out.append("#" * level + " " + texts[0])
        elif kind == "list":
            out.append("\n".join(f"- {text}" for text in texts))
        elif kind == "code":
            out.append("\n".join(["```", *texts, "```"]))
        elif kind == "table":
            out.append("\n".join(["| a | b |", "|---|---|", *(f"| {text} | |" for text in texts)]))
        else:
            out.append("\n".join(texts))
    return "\n\n".join(out) + "\n"


def as_rst(outline):
    out = []
    for kind, level, lines in outline:
        texts = [sentence(line) for line in lines]
        if kind == "heading":
            out.append(texts[0] + "\n" + "=-~^"[level - 1] * max(4, len(texts[0])))
        elif kind == "list":
            out.append("\n".join(f"* {text}" for text in texts))
        elif kind == "code":
            out.append("\n".join([".. code-block:: text", "", *(f"   {text}" for text in texts)]))
        elif kind == "table":
            width = max(map(len, texts)) + 2
            ruler = "+" + "-" * width + "+"
            out.append("\n".join([ruler, *(f"| {text.ljust(width - 2)} |\n{ruler}" for text in texts)]))
        else:
            out.append("\n".join(texts))
    return "\n\n".join(out) + "\n"


def as_text(outline):
    out = []
    for kind, level, lines in outline:
        texts = [sentence(line) for line in lines]
        if kind == "heading":
            out.append(texts[0] + "\n" + "=#*-"[level - 1] * max(4, len(texts[0])))
        else:
            indent = "    " if kind == "code" else ""
            out.append("\n".join(indent + ("- " if kind == "list" else "") + text for text in texts))
    return "\n\n".join(out) + "\n"


def as_html(outline):
    out = ["<!doctype html><html><head><title>t</title><style>p{x:1}</style></head><body><nav>navword</nav>"]
    for kind, level, lines in outline:
        texts = [html.escape(sentence(line)) for line in lines]
        if kind == "heading":
            out.append(f"<h{level}>{texts[0]}</h{level}>")
        elif kind == "list":
            out.append("<ul>" + "".join(f"<li>{text}" for text in texts) + "</ul>")
        elif kind == "code":
            out.append("<pre>" + "\n".join(texts) + "</pre>")
        elif kind == "table":
            out.append("<table>" + "".join(f"<tr><td>{text}<td>&nbsp;</tr>" for text in texts) + "</table>")
        else:
            out.append("<p>" + "<br>\n ".join(f"<b>{text[:1]}</b>{text[1:]}" for text in texts))
    return "\n".join([*out, "<footer>footword</footer></body></html>"])


def as_python(outline):
    out = []
    for kind, level, lines in outline:
        texts = [sentence(line) for line in lines]
        if kind == "heading":
            out.append(f"def {'_'.join(texts[0].split())}():\n    return {level}")
        else:
            out.append("\n".join(f"# {text}" for text in texts))
    return "\n\n".join(out) + "\n"


FORMATS = {"md": as_markdown, "rst": as_rst, "txt": as_text, "html": as_html, "py": as_python}


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=25, deadline=None)
@given(outline=outlines(), tokens=st.sampled_from([12, 40, 180]), ends=st.sampled_from(["\n", "\r\n"]))
def test_no_word_is_lost_and_every_passage_is_where_it_says(tmp_path_factory, suffix, outline, tokens, ends):
    place = tmp_path_factory.getbasetemp() / f"documents-{suffix}"
    place.mkdir(exist_ok=True)
    file = place / f"page.{suffix}"
    source = FORMATS[suffix](outline)
    file.write_text(source, encoding="utf-8", newline=ends)
    decoded = file.read_bytes().decode()
    corpus = FileCorpus(place, tokens=tokens)
    passages = list(corpus)
    body = [word for kind, _, lines in outline if kind != "heading" for line in lines for word in line]
    body = [word for word in body if word not in ".:!"]
    if not passages:
        assert corpus.skipped == {"near-empty-file": 1}
        return
    found = Counter(word for one in passages for word in words_of(one.text))
    assert [word for word in body if found[word] != 1] == []
    reached = 0
    for one in passages:
        start, end = int(one.metadata["start"]), int(one.metadata["end"])
        assert reached <= start < end <= len(decoded)
        reached = end
        assert token_count(one.text) <= tokens
        if suffix == "html":
            assert set(words_of(one.text)) <= set(words_of(html.unescape(without_bold(decoded[start:end]))))
        else:
            assert one.text == decoded[start:end]
        assert "navword" not in one.text
        assert "footword" not in one.text
    assert len({one.docno for one in passages}) == len(passages)


def words_of(text):
    return [word for word in re.findall(r"\w+", text) if word.endswith("z") and "q" in word]


def without_bold(text):
    return text.replace("<b>", "").replace("</b>", "")


SNIPPETS = [
    *(
        "# a\n",
        "== b\n",
        "---\n",
        "===\n",
        "+++\n",
        "- x\n",
        "  y\n",
        "\t",
        "```\n",
        "~~~",
        "| a | b |\n",
        "|---|---|\n",
        "> q\n",
    ),
    *(
        ".. note::\n",
        ".. function:: f(x)\n",
        "::\n\n",
        "   z\n",
        "+--+--+\n",
        "==== ====\n",
        ".. [1] n\n",
        ":f: v\n",
        "...\n",
    ),
    *(
        "<table>",
        "<tr>",
        "<td>",
        "</table>",
        "<li>",
        "<p>",
        "</p>",
        "<h1>",
        "</h2>",
        "<pre>",
        "</pre>",
        "<dt id=x>",
        "<main>",
    ),
    *(
        "<nav>",
        "</nav>",
        "<!--",
        "-->",
        "<![CDATA[",
        "&amp",
        "&#x0;",
        "&#55296;",
        "<br/>",
        "<a href='#x'>",
        "</a>",
        "<",
        "&",
    ),
    *(
        "def f():\n",
        "class A:\n",
        "    pass\n",
        "func g() {\n",
        "}\n",
        '"""',
        "'",
        "word ",
        "Wort. ",
        "\u65e5\u672c\u3002",
        "e\u0301",
    ),
    *("\r", "\r\n", "\n", "\n\n", "\x0c", "\u2028", "\x00", "\ufeff", "\x1c", " "),
]
READERS = (read_markdown, read_html, read_rst, read_plain, read_source, read_python)


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@settings(max_examples=60, deadline=None)
@given(text=st.lists(st.sampled_from(SNIPPETS), max_size=60).map("".join), tokens=st.sampled_from([0, 1, 9, 60]))
def test_whatever_a_file_holds_its_passages_are_slices_in_order(read, text, tokens):
    document = read(text)
    found = pieces(document, "name", tokens)
    reached = 0
    for piece in found:
        assert reached <= piece.start < piece.end <= len(document.text)
        reached = piece.end
        assert not tokens or token_count(document.text[piece.start : piece.end]) <= max(tokens, 1)
        if document.origin is not None:
            assert 0 <= document.origin[piece.start] <= document.origin[piece.end - 1] < len(text)
    assert len({piece.address for piece in found}) == len(found)
