"""Text cut into words and sentences: analyzers for lexical weights, word pieces, sentences that keep their offsets."""
