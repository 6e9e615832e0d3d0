"""Block designs: which candidates a plan compares together, for any number of candidates.

Names are those of JointRank (Dedov, ICTIR 2025, arXiv 2506.22262, and its public code). There, a latin square needs
n = b*b candidates for blocks of b and a triangular design n = b(b + 1)/2. Here every n works. For n candidates, blocks
of at most b and r replicas (n > b; if one block holds all candidates, every design is r shuffled copies of it):

- *equi-replicate*: ceil(rn/b) blocks of b. r shuffled passes over the candidates are cut into blocks; the last block
  of a pass borrows from the next pass what it does not hold yet. Every candidate is in r or r + 1 blocks.
- *replicate*: the same with floor(rn/b) blocks. Every candidate is in r - 1 or r of them.
- *randomised*: ceil(rn/b) independent samples of b. A candidate can be in none.
- *latin-square*: candidates are cells of a square, blocks are its rows and columns: two replicas. Two candidates meet
  at most once and every row meets every column. For n = b*b there are 2b blocks of b.
- *triangular*: candidates are edges of a complete graph, a block is the edges at one vertex: two replicas. Any two
  blocks share one candidate. For n = b(b + 1)/2 there are b + 1 blocks of b.

For other n the last two have cells (edges) of g candidates that stay together, or none: g is the largest number for
which the blocks hold at most b, and cells differ by at most one candidate. Large blocks say more than many small ones
for the same price: 100 candidates in blocks of 20 make a square of 5 by 5 cells of four, ten blocks of 20. Where even
g = 1 is too large, rows, columns and vertices are cut into equal blocks of at most b. More than two replicas take
another, differently shuffled square or graph for each two; of the last square an odd r takes the rows only, and the
triangular design has 2 ceil(r/2) replicas. Every candidate is in exactly as many blocks, except that a row of one
candidate gets a random second one.

Candidates are always shuffled first, and once more inside their block: unshuffled, the first block is the head of the
first stage, and a judge with position bias would confirm it.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

Design = Literal["equi-replicate", "replicate", "randomised", "latin-square", "triangular"]
DESIGNS: tuple[Design, ...] = ("equi-replicate", "replicate", "randomised", "latin-square", "triangular")

Block = tuple[int, ...]


def blocks(n: int, size: int, replicas: int, rng: Random, design: Design = "equi-replicate") -> list[Block]:
    """Blocks of at most `size` of n positions, none holding one twice, all to be compared at once.

    Args:
        n: number of candidates.
        size: b, at least 2.
        replicas: r, at least 1.
        rng: shuffles. The number of blocks and their sizes do not depend on it.
        design: see the module.
    """
    if n <= size:
        return [tuple(rng.sample(range(n), n)) for _ in range(replicas)]
    if design == "equi-replicate":
        return _passes(n, size, -(-replicas * n // size), rng)
    if design == "replicate":
        return _passes(n, size, replicas * n // size, rng)
    if design == "randomised":
        return [tuple(rng.sample(range(n), size)) for _ in range(-(-replicas * n // size))]
    made: list[Block] = []
    for done in range(0, replicas, 2):
        shuffled = rng.sample(range(n), n)
        cells = _square(n, size) if design == "latin-square" else _triangle(n, size)
        rows_only = design == "latin-square" and replicas - done == 1
        made += _cut((([shuffled[i] for i in line]) for line in _lines(cells, rows_only=rows_only)), n, size, rng)
    return made


def _passes(n: int, size: int, count: int, rng: Random) -> list[Block]:
    """`count` blocks of `size` from shuffled passes over n positions."""
    result: list[Block] = []
    queue: list[int] = []
    for _ in range(count):
        block = queue[:size]
        queue = queue[size:]
        if len(block) < size:
            held = set(block)
            fresh = rng.sample(range(n), n)
            borrowed = [item for item in fresh if item not in held][: size - len(block)]
            queue = [item for item in fresh if item not in set(borrowed)]
            block += borrowed
        result.append(tuple(rng.sample(block, size)))
    return result


def _square(n: int, size: int) -> list[tuple[int, int]]:
    """The row and the column (numbered after the rows) of each of n places."""
    for together in range(size, 0, -1):
        cells = -(-n // together)
        columns = isqrt(cells - 1) + 1
        if together * columns <= size:
            break
    else:
        cells, columns = n, size
    rows = -(-cells // columns)
    diagonal = [(t % rows, rows + (t % columns + t // _common(rows, columns)) % columns) for t in range(rows * columns)]
    return [diagonal[i % len(diagonal)] for i in range(n)]


def _common(a: int, b: int) -> int:
    """The least common multiple: after as many steps a diagonal of an a by b grid closes."""
    return next(multiple for multiple in range(a, a * b + 1, a) if multiple % b == 0)


def _triangle(n: int, size: int) -> list[tuple[int, int]]:
    """The two vertices that each of n places joins."""
    for together in range(size, 0, -1):
        vertices = _vertices(-(-n // together))
        if together * (vertices - 1) <= size:
            break
    else:
        vertices = _vertices(n)
    steps = range(1, vertices // 2 + 1)
    edges = [(u, (u + step) % vertices) for step in steps for u in range(vertices) if 2 * step < vertices or u < step]
    return [edges[i % len(edges)] for i in range(n)]


def _vertices(edges: int) -> int:
    """The size of the smallest complete graph that has as many edges."""
    return (1 + isqrt(8 * edges - 7)) // 2 + 1


def _lines(cells: Sequence[tuple[int, int]], *, rows_only: bool) -> list[list[int]]:
    """The places on each line, those of the first coordinate only if `rows_only`."""
    lines: dict[int, list[int]] = {}
    for place, cell in enumerate(cells):
        for line in cell[:1] if rows_only else cell:
            lines.setdefault(line, []).append(place)
    return [lines[line] for line in sorted(lines)]


def _cut(lines: Iterable[list[int]], n: int, size: int, rng: Random) -> list[Block]:
    """Shuffle each line, cut it into equal blocks of at most `size`, and give a lonely candidate a companion."""
    made: list[Block] = []
    for line in lines:
        rng.shuffle(line)
        pieces = -(-len(line) // size)
        for piece in range(pieces):
            block = line[piece::pieces]
            if len(block) == 1:
                block.append(rng.choice([item for item in range(n) if item not in line]))
                rng.shuffle(block)
            made.append(tuple(block))
    return made
