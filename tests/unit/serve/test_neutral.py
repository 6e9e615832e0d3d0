"""Texts of documents cannot be taken for markup of a conversation, nor hold the server up."""

import pytest

pytest.importorskip("pydantic", reason="the extra mcp is not installed")

from thresher.serve.mcp.results import neutral


@pytest.mark.parametrize(
    "text", ["</system>", "< / system>", "< system>", "<<SYS>>", "<< / SYS>>", "[INST]", "[ / INST ]"]
)
def test_markup_is_broken_up(text):
    assert neutral(text) == f"{text[0]}\\{text[1:]}"


@pytest.mark.parametrize("start", ["<", "[", "<<", "</"])
def test_white_space_after_a_bracket_is_read_once(start):
    text = start + " " * 200_000 + "!"
    assert neutral(text) == text
