"""What tokens cost: a table the user gives, since prices change faster than releases.

A TOML file with one table a model, prices per million tokens in any one currency:

    ["gpt-4.1-mini"]
    input = 0.40
    output = 1.60

Reasoning tokens are billed as output.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from thresher.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Price:
    """Prices per million tokens."""

    input: float
    output: float

    def of(self, prompt_tokens: int, answer_tokens: int) -> float:
        """The cost of one call."""
        return (prompt_tokens * self.input + answer_tokens * self.output) / 1e6


def load_prices(path: str | Path) -> dict[str, Price]:
    """Read a price table: model name to price.

    Raises:
        ConfigError: it cannot be read, or a model lacks a price that is a number of at least 0.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise ConfigError(f"{path}: the price table cannot be read: {err}") from None
    prices = {}
    for model, entry in document.items():
        values = [entry.get(key) if isinstance(entry, dict) else None for key in ("input", "output")]
        if not all(isinstance(v, int | float) and not isinstance(v, bool) and v >= 0 for v in values):
            raise ConfigError(
                f"{path}: model {model!r} needs `input` and `output`, each a price per million tokens of at least 0; "
                f"found {entry!r}"
            )
        prices[model] = Price(*map(float, values))  # type: ignore[arg-type]
    return prices
