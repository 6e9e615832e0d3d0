"""Reranking plans under judges that err on purpose."""
