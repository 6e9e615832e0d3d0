"""Lets the tests here import what tests of searches share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "search"))
