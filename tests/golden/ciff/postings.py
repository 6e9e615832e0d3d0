"""What the golden CIFF file holds."""

LISTS = {
    "curie": [(0, 1), (2, 3)],
    "grain": [(1, 2)],
    "naïve": [(0, 300), (1, 1), (4, 7)],
    "日本": [(4, 1)],
}
"""term to (document, frequency)."""
DOCNOS = ["radium", "wheat", "a/b", "empty", "naïve-日本"]
