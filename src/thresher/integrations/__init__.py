"""thresher inside other frameworks: thin adapters, one module and one extra a framework.

    langchain      retriever, document compressors (rerank, prune)
    llama_index    retriever, node postprocessors (rerank, prune), sparse embedding
    haystack       retriever, ranker, context pruner
    pyterrier      retriever, reranker, pruner, encoders, quality, and an indexer that is an artifact
    dspy           retriever
    pyserini       a Lucene index that Anserini or pyserini wrote, searched as our own are
    faiss          an index file of faiss, searched as our own dense indexes are

A document that a retriever returns keeps the passage's metadata as they are, and has what thresher knows of it under
the key `thresher`: docno, title, rank, scores of all stages, spans of what was kept and the original text. Rerankers
and pruners take it from there, and return it.
"""
