"""Dense vectors of passages: interpolating a ranking with early stopping, and dense retrieval."""
