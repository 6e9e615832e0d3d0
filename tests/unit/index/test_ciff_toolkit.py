"""CIFF that a peer wrote: the golden file of ciff-toolkit is read as what it holds."""

from pathlib import Path

from tests.golden.ciff import postings as golden
from thresher.index.exchange import open_encoded


def test_what_ciff_toolkit_wrote_is_read():
    opened = open_encoded(Path(golden.__file__).parent / "toolkit.ciff")
    found = {}
    for passages, batch in opened:
        bounds, terms, weights = batch.indptr.tolist(), batch.terms.tolist(), batch.weights.tolist()
        for i, passage in enumerate(passages):
            own = slice(bounds[i], bounds[i + 1])
            names = [opened.vocabulary[term] for term in terms[own]]
            found[passage.docno] = dict(zip(names, weights[own], strict=True))
    wanted = {
        docno: {term: dict(own)[number] for term, own in golden.LISTS.items() if number in dict(own)}
        for number, docno in enumerate(golden.DOCNOS)
    }
    assert list(found.items()) == list(wanted.items())
