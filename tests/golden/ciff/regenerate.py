"""Write the golden CIFF file: a small index as ciff-toolkit (PyPI) writes it.

    pip install ciff-toolkit && python -m tests.golden.ciff.regenerate

It needs protobuf 4, which other development extras do not go with; run it in an environment of its own.
"""

from pathlib import Path

from ciff_toolkit.ciff_pb2 import DocRecord, Header, Posting, PostingsList
from ciff_toolkit.write import CiffWriter

from tests.golden.ciff.postings import DOCNOS, LISTS

HERE = Path(__file__).parent


def header():
    return Header(
        version=1, num_postings_lists=len(LISTS), num_docs=len(DOCNOS), total_postings_lists=len(LISTS),
        total_docs=len(DOCNOS), total_terms_in_collection=315, average_doclength=63.0, description="by ciff-toolkit",
    )  # fmt: skip


def lists():
    for term, postings in LISTS.items():
        gaps = [doc - before for (doc, _), before in zip(postings, [0, *(doc for doc, _ in postings)], strict=False)]
        yield PostingsList(
            term=term,
            df=len(postings),
            cf=sum(count for _, count in postings),
            postings=[Posting(docid=gap, tf=count) for gap, (_, count) in zip(gaps, postings, strict=True)],
        )


def records():
    for number, docno in enumerate(DOCNOS):
        length = sum(count for postings in LISTS.values() for doc, count in postings if doc == number)
        yield DocRecord(docid=number, collection_docid=docno, doclength=length)


if __name__ == "__main__":
    with CiffWriter(str(HERE / "toolkit.ciff")) as writer:
        writer.write_header(header())
        writer.write_postings_lists(lists())
        writer.write_documents(records())
