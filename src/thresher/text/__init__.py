"""Words and sentences of texts: analyzers for lexical weights, and sentence spans."""
