"""Passages from folders of documents: Markdown, HTML, reStructuredText, text, source, PDF and DOCX.

    folder.py        the corpus: which files, in which order, what is counted
    walk.py          files of a folder; what is passed over (`gitignore.py`)
    decoding.py      bytes to text
    front_matter.py  YAML or TOML at the head of a file
    blocks.py        a document as a text and its blocks: headings, prose, code, tables, lists
    markdown.py, hypertext.py, restructured.py, plain.py, source.py, portable.py    one reader a format, to blocks
    packing.py       blocks to passages

Every reader gives one text and the blocks in it; packing knows no format. The parsers are `markdown-it-py` (CommonMark
with the lines of every block), the standard library's `html.parser` (exact positions, no dependency), `ast` for Python;
reStructuredText is read by lines, since docutils keeps no position of where a block ends and runs directives that
only Sphinx knows into errors. PDF is read by pypdf and DOCX by python-docx (extra `files`), the kept libraries for
both that need no program beside them.
"""
