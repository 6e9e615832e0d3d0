"""Requests, answers and errors in the shapes of other services."""
