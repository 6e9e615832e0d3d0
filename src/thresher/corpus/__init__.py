"""Passages in, from files, folders, data sets and the documentation installed with Python.

A corpus is a stream: memory does not grow with it, except for 16 bytes a passage by which a repeated docno is found.
Whatever is wrong with a record is an error that names file and line, or, with `on_error="skip"`, is counted by reason;
nothing is dropped silently.
"""

from thresher.corpus.base import REASONS, Corpus, MemoryCorpus, fingerprint_of
from thresher.corpus.open import open_corpus

__all__ = ["REASONS", "Corpus", "MemoryCorpus", "fingerprint_of", "open_corpus"]
