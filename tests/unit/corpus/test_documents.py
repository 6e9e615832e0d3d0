"""Folders of documents: which files are read, how they are cut, what is said of the rest."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thresher import open_corpus
from thresher.corpus import REASONS
from thresher.corpus.files import folder, walk
from thresher.corpus.files.decoding import decode, is_binary
from thresher.corpus.files.folder import FileCorpus
from thresher.corpus.files.front_matter import front_matter
from thresher.corpus.files.gitignore import is_ignored, rules_of
from thresher.corpus.files.hypertext import read_html
from thresher.errors import ConfigError, InputError, MissingExtraError

GUIDE = """---
title: The guide
tags: [install, linux]
date: 2024-05-01
draft: false
---
- [Install](#install)
- [Use](#use)
- [Help](#help)

# Guide

[![build](https://x.org/b.svg)](https://x.org)

What the guide is about, in some words of its own.

## Install

### Linux

Run this as a user:

```sh
apt install thresher
```

### Windows

Ask a colleague who knows how that is done there, and {filler}

## Use

| option | meaning |
|--------|---------|
| `-k`   | how many |
""".replace("{filler}", "then wait for what they say. " * 30)


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def by_docno(corpus):
    return {passage.docno: passage for passage in corpus}


def test_the_path_of_headings_is_the_title_and_code_stays_with_what_introduces_it(tmp_path):
    passages = by_docno(open_corpus(write(tmp_path, {"guide/index.md": GUIDE}), split_tokens=40))
    linux = passages["guide/index.md#install/linux"]
    assert linux.title == "Guide > Install > Linux"
    assert linux.text == "Run this as a user:\n\n```sh\napt install thresher\n```"
    assert passages["guide/index.md"].text == "What the guide is about, in some words of its own."
    assert passages["guide/index.md#install/windows~2"].title == "Guide > Install > Windows"
    assert not any("build" in one.text or "#help" in one.text or "draft" in one.text for one in passages.values())


def test_metadata_is_from_path_time_and_front_matter(tmp_path):
    write(tmp_path, {"guide/a b/index.md": GUIDE})
    os.utime(tmp_path / "guide/a b/index.md", (1_700_000_000, 1_700_000_000))
    corpus = open_corpus(tmp_path)
    passages = list(corpus)
    assert passages[0].docno == "guide/a%20b/index.md#install/linux"
    metadata = passages[-1].metadata
    assert metadata["document"] == "guide/a%20b/index.md"
    assert (metadata["path"], metadata["folder"]) == ("guide/a b/index.md", "guide/a b")
    assert (metadata["file_type"], metadata["modified"]) == ("markdown", "2023-11-14T22:13:20+00:00")
    assert (metadata["tags"], metadata["date"], metadata["draft"]) == (["install", "linux"], "2024-05-01", False)
    assert "encoding" not in metadata
    assert corpus.fields["date"] == "date"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("---\ntitle: a: b\nweight: 3\n---\nx", {"title": "a: b", "weight": "3"}),
        ("+++\nn = 3\nd = 2020-01-02\n+++\nx", None),
        ("---\n\nnot fields\n\n---\nx", {}),
        ("---\na: &x [1]\nb: *x\n---\nx", {}),
        ("text", {}),
    ],
)
def test_front_matter_is_yaml_or_toml_and_malformed_yaml_is_read_by_lines(text, fields):
    found, end = front_matter(text)
    if fields is None:
        assert (found["n"], str(found["d"])) == (3, "2020-01-02")
    else:
        assert found == fields
    assert text[end:].strip().endswith("x") or not found


def test_a_heading_may_state_its_anchor(tmp_path):
    text = "# A\n\n" + "Words of the first part. " * 9 + "\n\n## B part {#bee}\n\n" + "Words of the other part. " * 9
    passages = list(open_corpus(write(tmp_path, {"a.md": text}), split_tokens=60))
    assert [(one.title, one.metadata["anchor"]) for one in passages] == [("A", "a"), ("A > B part", "bee")]


def test_a_name_that_is_not_utf8_or_holds_what_a_docno_may_not_is_encoded(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9 100%#1.md")).write_text("Words that are read, more than a few.")
    passage = next(iter(open_corpus(tmp_path)))
    assert passage.docno == "caf%E9%20100%25%231.md"
    assert passage.metadata["path"] == passage.docno


def test_short_sections_of_one_heading_share_a_passage(tmp_path):
    text = "# Options\n\n" + "".join(f"## Option {n}\n\nSets the number {n}.\n\n" for n in range(6))
    passages = list(open_corpus(write(tmp_path, {"a.md": text}), split_tokens=40))
    assert [one.title for one in passages] == ["Options"] * len(passages)
    assert len(passages) == 2
    assert passages[0].text.startswith("## Option 0\n")


def test_an_edit_changes_no_docno_of_another_section(tmp_path):
    sections = {name: f"# {name}\n\n" + f"All about {name}, told slowly. " * 40 for name in ("One", "Two", "Three")}
    write(tmp_path, {"a.md": "\n\n".join(sections.values())})
    before = by_docno(open_corpus(tmp_path, split_tokens=60))
    edited = sections | {"Two": "# Two\n\nLess.\n\n## More\n\n" + "Quite other words, and more of them. " * 50}
    write(tmp_path, {"a.md": "\n\n".join(edited.values())})
    after = by_docno(open_corpus(tmp_path, split_tokens=60))
    for name in ("one", "three"):
        kept = {docno: one.text for docno, one in before.items() if f"#{name}" in docno}
        assert len(kept) > 2
        assert kept == {docno: one.text for docno, one in after.items() if f"#{name}" in docno}


PAGE = """<html><head><title>Grain - The Site</title><meta name="author" content="K."></head><body>
<header>The Site</header><nav><a href="/">home</a></nav><div class="md-sidebar">menu words</div>
<main><h1 id="grain">Grain<a class="headerlink" href="#grain">&para;</a></h1>
<p>Grain &amp; chaff are separated by <b>thresh</b>ing,
and kept apart.</p><script>var hidden = 1;</script>
<h2 id="kinds">Kinds</h2><table><tr><th>name</th><th>colour</th></tr><tr><td>rye</td><td>blue</td></tr></table>
<dl><dt id="mill.grind">mill.grind(<i>grain</i>)</dt><dd>Grinds it.</dd></dl>
<pre>mill
  grind</pre><ul><li>flour<li>bran</ul></main>
<div class="cookie-consent">We use cookies</div><footer>Imprint</footer></body></html>"""


def test_a_page_is_read_as_a_reader_sees_it(tmp_path):
    passages = by_docno(open_corpus(write(tmp_path, {"p.html": PAGE}), split_tokens=20))
    assert passages["p.html"].text == "Grain & chaff are separated by threshing, and kept apart."
    assert passages["p.html"].title == "Grain"
    kinds = passages["p.html#kinds"]
    assert kinds.title == "Grain > Kinds"
    assert kinds.text == "name | colour\nrye | blue"
    assert kinds.metadata["anchor"] == "kinds"
    assert kinds.metadata["author"] == "K."
    whole = "\n".join(one.text for one in passages.values())
    assert "mill.grind(grain)" in whole
    assert "mill\n  grind" in whole
    assert "- flour\n- bran" in whole
    for gone in ("Site", "home", "menu", "hidden", "cookies", "Imprint", "\u00b6"):
        assert gone not in whole
    start, end = (int(kinds.metadata[name]) for name in ("start", "end"))
    assert PAGE[start:end] == "name</th><th>colour</th></tr><tr><td>rye</td><td>blue"


@pytest.mark.parametrize("end", ["", "<p", "&am", "</", "<!--", "a < b"])
def test_places_of_a_page_are_those_of_its_characters_to_the_end(end):
    page = "<h1>A  title</h1>\n<p>One\r\n\ttwo &amp; three\xa0four </p><pre>\n  x\ty\n\n z</pre>"
    page += f"<td>five \n <b>six</b> {end}"
    document = read_html(page)
    assert document.text.split()[:7] == ["A", "title", "One", "two", "&", "three", "four"]
    assert "  x\ty\n\n z" in document.text
    assert "five six" in document.text
    for char, place in zip(document.text, document.origin, strict=False):
        assert page[place] == char or char.isspace() or page.startswith("&amp;", place)
    assert document.origin[document.text.index("six")] == page.index("six")


def test_a_folder_counts_its_files_for_a_bar(tmp_path, monkeypatch):
    for name in ("a.md", "b/c.txt", "b/d.html", "e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Some words, enough of them to be a passage.")
    bars = []
    monkeypatch.setattr(folder, "tqdm", lambda files, what, total, **_: bars.append((what, total)) or files)
    corpus = FileCorpus(tmp_path)
    assert len(list(corpus)) == 3
    assert not bars
    corpus.progress = True
    assert len(list(corpus)) == 3
    assert bars == [("reading", 3)]


def test_sections_about_cookies_or_navigation_are_no_notices(tmp_path):
    words = "<p>What they are and how a page sets them, in some words."
    page = (
        f'<h1>T</h1><section id="cookies"><h2>Cookies</h2>{words}</section><h2 id="navigation">Navigation</h2>{words}'
    )
    page += f'<div class="section" id="footer"><h2>Footer</h2>{words}</div><div class="cookie-banner">We set them</div>'
    page += '<div class="toc_xY12">On this page</div>'
    passages = list(open_corpus(write(tmp_path, {"p.html": page}), split_tokens=20))
    assert [one.title for one in passages] == ["T > Cookies", "T > Navigation", "T > Footer"]
    assert [one.metadata["anchor"] for one in passages] == ["cookies", "navigation", "footer"]


RST = """
:orphan:

=======
Grinder
=======

.. toctree::
   other

.. _label:

Mills
-----

A mill grinds :ref:`grain <x>`::

   mill --grind

.. function:: grind(grain)

   Grind it finely, which takes a while and is worth it, as many have found out before. {filler}

.. note::

   Not at night.

After the function, and after the note, some more words follow.
""".replace("{filler}", "It is always so. " * 20)


def test_rst_has_sections_literal_blocks_and_objects(tmp_path):
    passages = by_docno(open_corpus(write(tmp_path, {"a.rst": RST}), split_tokens=60))
    assert passages["a.rst#mills"].title == "Grinder > Mills"
    assert passages["a.rst#mills"].text == "A mill grinds :ref:`grain <x>`::\n\n   mill --grind"
    function = passages["a.rst#mills/grind"]
    assert function.title == "Grinder > Mills > grind"
    assert function.text.startswith(".. function:: grind(grain)\n\n   Grind it finely")
    assert any(one.title == "Grinder > Mills" and "After the function," in one.text for one in passages.values())
    assert not any("toctree" in one.text or "_label" in one.text for one in passages.values())


def test_source_has_a_section_for_each_definition(tmp_path):
    filler = "".join(f"        total += {n}  # one more\n" for n in range(12))
    python = f'"""What a mill is."""\n\nclass Mill:\n    """{"Grinds well. " * 20}"""\n\n    def grind(self):\n{filler}'
    other = f"package main\n\n// Grind grinds.\nfunc Grind(n int) {{\n{filler}}}\n\ntype Mill struct {{\n{filler}}}\n"
    passages = by_docno(open_corpus(write(tmp_path, {"mill.py": python, "mill.go": other}), split_tokens=120))
    assert passages["mill.py#Mill/grind"].title == "mill.py > Mill > grind"
    assert passages["mill.go#Grind"].text.startswith("package main\n\n// Grind grinds.\nfunc Grind")
    assert passages["mill.go#Grind"].title == "mill.go > Grind"
    assert passages["mill.go#Mill"].title == "mill.go > Mill"
    assert passages["mill.go#Mill"].metadata["file_type"] == "go"


def test_plain_text_has_headings_that_are_underlined_or_in_capitals(tmp_path):
    words = "Words of the part, and more. " * 12
    text = f"SYNOPSIS\n    mill [-k]\n\nA Part\n======\n\n{words}\n\n[NOTE]\n=====\n{words}\n\n== Marked\n\n{words}"
    passages = list(open_corpus(write(tmp_path, {"mill.txt": text, "README": text}), split_tokens=40))
    assert {one.metadata["path"] for one in passages} == {"README", "mill.txt"}
    titles = {one.title for one in passages}
    assert {"mill.txt > A Part", "mill.txt > A Part > Marked"} <= titles
    assert not any("NOTE" in title for title in titles)


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("grün".encode(), "grün", "utf-8"),
        ("grün".encode("utf-8-sig"), "grün", "utf-8-sig"),
        ("grün".encode("utf-16"), "grün", "utf-16"),
        ("\ufeffgrün".encode("utf-16-be"), "grün", "utf-16"),
        ("grün".encode("latin-1"), "grün", "cp1252"),
        (b"a\x81", "a\x81", "latin-1"),
        ("<meta charset='koi8-r'>мир".encode("koi8-r"), "<meta charset='koi8-r'>мир", "koi8-r"),
        (b"<meta charset=nonsense>\xc3\xbc", "<meta charset=nonsense>ü", "utf-8"),
    ],
)
def test_bytes_are_decoded_by_mark_declaration_utf8_or_fallback(data, text, encoding):
    assert decode(data, declares="html") == (text, encoding)
    assert not is_binary(data)
    assert data.decode(encoding) == text


def test_offsets_are_into_the_decoded_file_whatever_its_encoding(tmp_path, caplog):
    text = "# Grün\r\n\r\nViel Grün, und noch mehr davon.\r\n"
    write(tmp_path, {"a.md": text.encode("utf-16"), "b.md": text.encode("latin-1"), "c.md": text.encode("utf-8-sig")})
    with caplog.at_level(logging.WARNING):
        passages = list(open_corpus(tmp_path))
    assert len(passages) == 3
    for one in passages:
        decoded = (tmp_path / str(one.metadata["path"])).read_bytes().decode(str(one.metadata["encoding"]))
        assert decoded[int(one.metadata["start"]) : int(one.metadata["end"])] == one.text
    assert "1 files are not UTF-8 and declare no charset; read as Windows-1252 (b.md)" in caplog.text


def test_what_holds_no_text_is_counted_and_no_error(tmp_path):
    files = {
        "good.md": "Words that are read, more than a few.",
        "binary.txt": b"\x00\x01\x02" * 50,
        "empty.md": "",
        "todo.md": "# Todo\n\nSoon.",
        "search.html": "<p>One two three four five six.",
        "picture.png": b"\x89PNG",
        "torn.txt.gz": b"\x1f\x8b\x08\x00rubbish",
    }
    corpus = open_corpus(write(tmp_path, files))
    assert [one.docno for one in corpus] == ["good.md"]
    assert corpus.skipped == {
        "binary-file": 1, "near-empty-file": 2, "damaged-file": 1, "other-format-file": 1, "generated-file": 1
    }  # fmt: skip
    assert corpus.skipped.keys() <= REASONS.keys()


def test_hidden_ignored_and_generated_folders_are_passed_over(tmp_path):
    page = "Words that are read, more than a few."
    read = {"a.md": page, "build/kept.md": page, "deep/er/b.md": page, "drafts/keep.md": page}
    ignored = [
        ".git/x.md",
        ".hidden.md",
        "node_modules/x.md",
        "_build/x.md",
        "drafts/x.md",
        "deep/er/tmp/x.md",
        "c.md~",
    ]
    write(tmp_path, read | dict.fromkeys(ignored, page) | {"venv/pyvenv.cfg": "", "venv/x.md": page})
    write(tmp_path, {".gitignore": "/drafts/*\n!keep.md\n# c\n", "deep/.gitignore": "tmp/\n"})
    write(tmp_path, {"cache/CACHEDIR.TAG": "", "cache/x.md": page})
    assert {one.metadata["path"] for one in open_corpus(tmp_path)} == set(read)


@pytest.mark.skipif(
    subprocess.run(["git", "--version"], capture_output=True, check=False).returncode != 0, reason="git"
)
def test_gitignore_patterns_fit_what_git_says_they_fit(tmp_path):
    patterns = (
        "*.log\n!keep.log\n/top\nsub/\n**/deep/x\na/**/z\nb/**\nc?t\n[ab]at\n[!x]og\n\\#hash\n\\!bang\nspace \nd/*.md\n"
        "e**f\n/g/h\n*.[ch]\n"
    )
    names = [
        "x.log", "keep.log", "q/keep.log", "top", "q/top", "sub/a", "q/sub/a", "deep/x", "q/deep/x", "a/z", "a/q/z",
        "a/q/r/z", "b/q", "cat", "coat", "bat", "xat", "dog", "xog", "#hash", "!bang", "space", "d/a.md", "d/q/a.md",
        "eXf", "e/f", "g/h", "q/g/h", "a.c", "a.x",
    ]  # fmt: skip
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    write(tmp_path, {".gitignore": patterns, **dict.fromkeys(names, "x")})
    command = ["git", "-C", str(tmp_path), "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=False)
    levels = [("", rules_of(patterns))]

    def ours(name):
        parts = name.split("/")
        above = ("/".join(parts[:n]) for n in range(1, len(parts)))
        return any(is_ignored(one, levels, folder=True) for one in above) or is_ignored(name, levels, folder=False)

    wanted = {line.strip('"').replace("\\\\", "\\") for line in done.stdout.splitlines()}
    assert {name for name in names if ours(name)} == wanted


def test_links_are_followed_once_and_never_in_circles(tmp_path):
    page = "Words that are read, more than a few."
    write(tmp_path, {"root/a/one.md": page, "elsewhere/two.md": page})
    root = tmp_path / "root"
    links = {
        "a/up": root,
        "again": root / "a",
        "other": tmp_path / "elsewhere",
        "gone": root / "none",
        "self": root / "self",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    corpus = open_corpus(root)
    assert [one.docno for one in corpus] == ["a/one.md", "other/two.md"]
    assert corpus.skipped == {"symlink-loop": 2, "linked-twice": 1, "broken-link": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error_of_the_system(tmp_path):
    write(tmp_path, {"a.md": "Words that are read, more than a few.", "b.md": "Words that are not, more than a few."})
    (tmp_path / "b.md").chmod(0)
    with pytest.raises(PermissionError, match=r"b\.md"):
        list(open_corpus(tmp_path))
    corpus = open_corpus(tmp_path, on_error="skip")
    assert len(list(corpus)) == 1
    assert corpus.skipped == {"unreadable-file": 1}


def test_a_refusal_of_the_system_is_raised_or_counted(tmp_path, monkeypatch):
    write(tmp_path, {"a.md": "Words that are read, more than a few.", "b.md": "Words that are not, more than a few."})

    def refused(path, *args, **kwargs):
        if Path(path).name == "b.md":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    real = Path.open
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(PermissionError, match=r"b\.md"):
        list(open_corpus(tmp_path))
    corpus = open_corpus(tmp_path, on_error="skip")
    assert len(list(corpus)) == 1
    assert corpus.skipped == {"unreadable-file": 1}


def test_a_folder_without_documents_says_what_it_holds_and_which_extra_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(walk, "find_spec", lambda name: None)
    write(tmp_path, {"a.png": b"x", "b/c.png": b"x", "d.pdf": b"%PDF", "e.docx": b"PK"})
    with pytest.raises(
        InputError, match=r"found 2 \.png; 1 \.pdf, 1 \.docx left out; .*pip install 'thresher\[files\]'"
    ):
        open_corpus(tmp_path)
    write(tmp_path, {"f.md": "Words that are read, more than a few."})
    corpus = open_corpus(tmp_path)
    assert [one.docno for one in corpus] == ["f.md"]
    assert corpus.skipped == {"needs-extra-files": 2, "other-format-file": 2}


def test_the_readers_of_pdf_and_docx_name_the_extra(monkeypatch):
    from thresher.corpus.files.portable import read_docx, read_pdf

    monkeypatch.setitem(sys.modules, "pypdf", None)
    monkeypatch.setitem(sys.modules, "docx", None)
    for read in (read_pdf, read_docx):
        with pytest.raises(MissingExtraError, match=r"thresher\[files\]"):
            read(b"")


RECORD = '{"id": "a", "text": "a record"}\n'
PAGE_TEXT = "Words that are read, more than a few."


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"a.jsonl": RECORD, "README.md": PAGE_TEXT}, "records"),
        ({"corpus.jsonl": RECORD, "b/c.md": PAGE_TEXT}, "records"),
        ({"a.json": RECORD}, "records"),
        ({"a.json": RECORD, "b/c.md": PAGE_TEXT}, "documents"),
        ({"data.csv": "id,text\na,b\n", "c.html": PAGE_TEXT}, "documents"),
        ({"b/a.jsonl": RECORD, "c.md": PAGE_TEXT}, "documents"),
        ({"queries.md": PAGE_TEXT}, "documents"),
    ],
)
def test_a_folder_is_read_as_records_or_as_documents_by_one_rule(tmp_path, files, kind):
    corpus = open_corpus(write(tmp_path, files))
    assert isinstance(corpus, FileCorpus) == (kind == "documents")
    assert len(list(corpus)) == 1


def test_documents_beside_records_are_pointed_out(tmp_path, caplog):
    write(tmp_path, {"a.jsonl": RECORD, "README.md": PAGE_TEXT, "LICENSE": PAGE_TEXT})
    list(open_corpus(tmp_path))
    assert "documents" not in caplog.text
    write(tmp_path, {"guide/b.md": PAGE_TEXT, "guide/c.md": PAGE_TEXT})
    list(open_corpus(tmp_path))
    assert "read as records, since a.jsonl is in it; 2 documents beside it are not read" in caplog.text


def test_a_format_decides_and_documents_have_no_fields(tmp_path):
    write(tmp_path, {"a.jsonl": RECORD, "README.md": PAGE_TEXT})
    assert [one.docno for one in open_corpus(tmp_path, format="files")] == ["README.md"]
    assert [one.docno for one in open_corpus(tmp_path / "README.md")] == ["README.md"]
    with pytest.raises(ConfigError, match="holds records"):
        open_corpus(tmp_path / "a.jsonl", format="files")
    with pytest.raises(ConfigError, match="from files and folders"):
        open_corpus("-", format="files")
    with pytest.raises(ConfigError, match="documents, which have no fields"):
        open_corpus(tmp_path, format="files", text_field="x")
