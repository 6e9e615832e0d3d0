"""Experiments on search: the peers' panel, its collections, costs, growth, and where time and bytes go.

Their engines and collections stay in the work directory, so they share one: `--work DIR`.
"""
