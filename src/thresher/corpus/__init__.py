"""Passages in, from files, folders, data sets and the documentation installed with Python.

A corpus can be read again and again, as a stream: memory does not grow with it, but for 32 to 64 bytes a passage by
which a docno that comes twice is noticed. Whatever is wrong with a record is an error that names file and line, or,
where skipping was asked for, is counted by reason; nothing is left out silently.
"""

from thresher.corpus.base import REASONS, Corpus, MemoryCorpus, fingerprint_of
from thresher.corpus.open import open_corpus

__all__ = ["REASONS", "Corpus", "MemoryCorpus", "fingerprint_of", "open_corpus"]
