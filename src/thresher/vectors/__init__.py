"""Dense vectors by docno, for interpolating a ranking with early stopping, and dense retrieval beside them."""
