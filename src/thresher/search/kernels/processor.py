"""Exact top-k over an impact index: queries normalised, a plan chosen, one query or many answered.

Plans: term-at-a-time (`thresher.search.kernels.taat`) and block-max pruning (`thresher.search.kernels.bounds`). Both
give the hits that scoring every document would, with the same scores to the last bit. The threshold starts from the
stored k-th impacts and is inclusive.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np

from thresher._lazy import njit
from thresher.index.counts import SUPERBLOCK
from thresher.index.layout import CHUNK
from thresher.index.lists import validate
from thresher.search.kernels.bounds import score_by_bounds
from thresher.search.kernels.intrinsics import take
from thresher.search.kernels.late import is_late
from thresher.search.kernels.masks import count_windows
from thresher.search.kernels.postings import largest_impact, postings_of
from thresher.search.kernels.taat import (
    FLOAT_WINDOW,
    QUANTISED_WINDOW,
    score_allowed,
    score_float,
    score_quantised,
    score_sparse,
)
from thresher.search.kernels.topk import LIMIT, SAFE, SMALLEST, open_top
from thresher.search.kernels.types import (
    AUTO,
    BAD_WEIGHT,
    BLOCK_MAX,
    BLOCKS,
    BOUND,
    COMPLETE,
    DONE,
    EXACT,
    FAULTS,
    FIRST_TERMS,
    HITS,
    PLAN,
    POSTINGS,
    RESCORED,
    SCORED,
    SUPERBLOCKS,
    TERM_AT_A_TIME,
    TERMS,
    THRESHOLD,
    VISITED,
    WHOLE_SUPERBLOCKS,
    Allowed,
    Hits,
    QueryTerms,
    Request,
)

FEW, WORTH = 1000, 40
"""Quantised sums find up to `FEW` hits, where hits * terms * `WORTH` is at most the passages: scoring a hit again costs
some 45 ns a term, float64 sums about 1 ns a passage more than quantised ones (measured at 123,000)."""
ROUGH = 4000
"""Quantised sums find at most this number of hits where these are scored again anyway."""
LOOKUP, LOOKUPS_AT_ONCE = 40, 10_000
"""Postings that are added in the time of looking up a term in a document; up to how many such nothing is compared."""
FAR = 0.8
"""Candidates of two-step search whose first sum is below this share of the k-th seldom catch up: leaving them out saves
four in ten lookups, and one in a thousand of the ten best is lost (a million synthetic passages)."""
MANY_TERMS = 4096
BOUNDED_TERMS = 512
"""Terms of the longest query that bounds are tried for: they keep four bytes a superblock for each rare one."""


@njit(cache=True, nogil=True)
def normalise_query(terms, weights, known, most, out_terms, out_weights):
    """Validate and normalise a query; returns (terms kept, terms dropped by `most`), (-1, 0) for a bad weight.

    Drops terms outside 0 ... known - 1 and weights of 0, sorts the rest, and adds up repeated terms (in float64,
    rounded to float32 once). Of more than `most` terms it keeps the heaviest, among equals the smaller ids.
    terms int64[n], weights float32[n]; out_terms uint32[n], out_weights float64[n]   out
    """
    size = 0
    ascending = True
    for p in range(terms.shape[0]):
        if not 0 <= weights[p] < np.inf:
            return -1, 0
        if 0 <= terms[p] < known and weights[p] > 0:
            out_terms[size] = terms[p]
            out_weights[size] = weights[p]
            ascending = ascending and (size == 0 or out_terms[size - 1] < out_terms[size])
            size += 1
    if not ascending:
        order = np.argsort(out_terms[:size], kind="mergesort")
        old_terms, old_weights = out_terms[:size].copy(), out_weights[:size].copy()
        count = 0
        for p in range(size):
            if count > 0 and out_terms[count - 1] == old_terms[order[p]]:
                out_weights[count - 1] += old_weights[order[p]]
            else:
                out_terms[count], out_weights[count] = old_terms[order[p]], old_weights[order[p]]
                count += 1
        size = count
        for p in range(size):
            out_weights[p] = np.float64(np.float32(out_weights[p]))
            if not out_weights[p] < np.inf:
                return -1, 0
    if size <= most:
        return size, 0
    heaviest = np.sort(np.argsort(-out_weights[:size], kind="mergesort")[:most])
    for p in range(most):
        out_terms[p], out_weights[p] = out_terms[heaviest[p]], out_weights[heaviest[p]]
    return most, size - most


@njit(cache=True, nogil=True)
def initial_threshold(query, k, rows, kth):
    """A sum that k documents reach: k documents of a list reach weight * its k-th largest impact.

    Where some documents may not be returned, k counts them: of k + m documents, k are among the others.
    """
    least = 0.0
    column = 0 if k <= 1 else (1 if k <= 10 else (2 if k <= 100 else 3))
    if k <= 1000:
        for i in range(query.terms.shape[0]):
            if rows[query.terms[i]] >= 0:
                least = max(least, query.weights[i] * kth[rows[query.terms[i]], column])
    return max(least * SAFE, SMALLEST)


@njit(cache=True, nogil=True, inline="always")
def measure_lists(query, index):
    """(postings in the query's lists, the sum of their largest products: a bound of every sum)."""
    starts, rows, kth, impacts = index.starts, index.rows, index.kth, index.impacts
    entries, total = 0, 0.0
    for i in range(query.terms.shape[0]):
        term = query.terms[i]
        entries += postings_of(term, index)
        total += query.weights[i] * largest_impact(term, starts, rows, kth, impacts)
    return entries, total


@njit(cache=True, nogil=True)
def search_one(query, request, index, allowed, hits):
    """Answer a query whose terms have been validated; returns the number of hits.

    query, request            `QueryTerms`, `Request`
    index, allowed, hits      `Postings`, `Allowed`, `Hits` out
    """
    statistics, count = hits.statistics, query.terms.shape[0]
    entries, total = measure_lists(query, index)
    statistics[TERMS], statistics[POSTINGS], statistics[BLOCKS] = count, entries, index.maxima.shape[1]
    statistics[FIRST_TERMS] = count
    k = min(request.k, allowed.size)
    statistics[PLAN] = TERM_AT_A_TIME
    wanted = request.least / index.scale * SAFE
    if k == 0 or entries == 0 or wanted > total * (1.0 + count * 2.0**-50):
        return 0
    least = max(initial_threshold(query, k + index.passages - allowed.size, index.rows, index.kth), wanted)
    statistics[THRESHOLD], statistics[BOUND] = least * index.scale, total * index.scale
    if request.plan != BLOCK_MAX and few_are_allowed(count, entries, index.passages, allowed):
        statistics[SCORED] = allowed.size * count
        return score_allowed(query, least, k, index, allowed.docs, hits)
    if request.plan == BLOCK_MAX or (request.plan == AUTO and count <= BOUNDED_TERMS):
        top = open_top(k, index.scale, index.ranks, least, total, 2 * k + 2 * SUPERBLOCK)
        found = score_by_bounds(query, request, index, allowed, top, hits)
        if found >= 0:
            statistics[PLAN] = request.plan
            if request.limits.blocks < 1.0:
                statistics[EXACT] = 0.0
            return found
        least = top.limits[LIMIT]
    statistics[SCORED], statistics[VISITED] = entries, index.maxima.shape[1]
    statistics[SUPERBLOCKS] = statistics[WHOLE_SUPERBLOCKS] = index.superblocks.shape[1] - 1
    own = Request(k, request.plan, request.limits, request.least, request.deadline, request.rough)
    return search_term_at_a_time(query, total, least, own, index, allowed, hits)


@njit(cache=True, nogil=True, inline="always")
def search_term_at_a_time(query, total, least, request, index, allowed, hits):
    """Number of hits, by quantised sums where they pay and suffice. `least`: a sum that k documents reach.

    Where a score is carried from other parts of the index, fewer than k hits are expected of this one.
    """
    k, count = request.k, query.terms.shape[0]
    if allowed.docs.shape[0] > 0:
        room = 2 * k + 2 * min(CHUNK, allowed.docs.shape[0])
        top = open_top(k, index.scale, index.ranks, least, total, room)
        return score_sparse(query, request, index, allowed, top, hits)
    few = k <= FEW and (request.least > 0 or k * count * WORTH <= index.passages or k <= 10)
    few = few or (request.rough and k <= ROUGH)
    if few and count <= MANY_TERMS and total > least * 2.0**-8:
        found = score_quantised(query, total, least, request, index, allowed, hits)
        if found >= 0:
            return found
    top = open_top(k, index.scale, index.ranks, least, total, 2 * k + 2 * FLOAT_WINDOW)
    return score_float(query, request, index, allowed, top, hits)


@njit(cache=True, nogil=True)
def few_are_allowed(terms, entries, passages, allowed):
    """Whether looking up the query's terms in each allowed document costs less than adding up their lists.

    terms, entries   int64   terms of the query, postings of their lists
    """
    count = allowed.docs.shape[0]
    if count == 0:
        return False
    lookups = count * terms * LOOKUP
    if lookups <= LOOKUPS_AT_ONCE:
        return True
    windows = (passages + QUANTISED_WINDOW - 1) // QUANTISED_WINDOW
    return lookups < entries * count_windows(allowed.docs, QUANTISED_WINDOW) / windows


@njit(cache=True, nogil=True)
def first_step(query, limits, index):
    """The terms of the first step; returns (their `QueryTerms`, what the others add to a sum at most).

    Those with the largest impacts, weighted, for the square root of their postings come first, among equals the smaller
    ids: as many as `limits` allows, as fit into its share of all postings, and as it takes until the others can add no
    more than its share of the bound, but at least one. (At equal recall that takes about half of the postings that
    largest impacts alone would.)
    """
    count = query.terms.shape[0]
    most, entries, worth = np.empty(count, np.float64), np.empty(count, np.float64), np.empty(count, np.float64)
    for i in range(count):
        largest = largest_impact(query.terms[i], index.starts, index.rows, index.kth, index.impacts)
        most[i], entries[i] = query.weights[i] * largest, postings_of(query.terms[i], index)
        worth[i] = most[i] / np.sqrt(max(entries[i], 1.0))
    budget, spent, taken, rest = limits.postings * entries.sum(), 0.0, 0, most.sum()
    enough = limits.left_out * rest
    kept = np.zeros(count, np.bool_)
    for i in np.argsort(-worth, kind="mergesort"):
        fits = spent + entries[i] <= budget and rest > enough
        if taken == 0 or (taken < limits.terms and fits):
            kept[i] = True
            taken += 1
            spent += entries[i]
            rest -= most[i]
    rest = most[~kept].sum()
    return QueryTerms(query.terms[kept], query.weights[kept]), rest


@njit(cache=True, nogil=True)
def leave_far(docs, scores, size, low, best):
    """Move the documents whose score reaches `low` to the front; returns their number, and the best score left.

    docs, scores   uint32[n], float64[n]   of which the first `size` count, in any order   in and out
    best           float64                 returned where no score is left above it
    """
    kept = 0
    for i in range(size):
        if scores[i] >= low:
            docs[kept] = docs[i]
            kept += 1
        else:
            best = max(best, scores[i])
    return kept, best


@njit(cache=True, nogil=True)
def search_in_steps(query, request, index, allowed, hits):
    """Answer a query by some of its terms, and score the best again by all of them; returns the number of hits.

    After Two-Step SPLADE (arXiv 2404.13357), but of the candidates only those are scored again whose first sum is at
    least `FAR` times the k-th. A document that is not scored again has at most the best sum that was left, and what the
    other terms can add: where that is below the k-th score, the answer is exact. Where it is not, and the first step
    found fewer documents than it may, everything is scored.
    """
    limits, statistics, count = request.limits, hits.statistics, query.terms.shape[0]
    first, rest = first_step(query, limits, index)
    if first.terms.shape[0] == count:
        return search_one(query, request, index, allowed, hits)
    if limits.candidates == 0:
        statistics[EXACT] = 0.0
        return search_one(first, request, index, allowed, hits)
    k, rest = min(request.k, allowed.size), rest * index.scale * (1.0 + count * 2.0**-50)
    width = min(max(limits.candidates, k), allowed.size)
    docs, scores = np.empty(width, np.uint32), np.empty(width, np.float64)
    low = max(request.least - rest, 0.0)
    own = Request(width, request.plan, limits, low, request.deadline, True)
    found = search_one(first, own, index, allowed, Hits(docs, scores, statistics))
    near, best_left = found, 0.0
    if k > 0 and found == width < allowed.size:
        ordered = np.sort(scores[:found])
        near, best_left = leave_far(docs, scores, found, FAR * ordered[found - k], ordered[0])
    unseen = (rest + best_left) * (1.0 + count * 2.0**-50)
    kept = score_allowed(query, request.least / index.scale * SAFE, k, index, np.sort(docs[:near]), hits)
    worst = hits.scores[kept - 1] if kept == k and k > 0 else 0.0
    if unseen >= max(worst, request.least) and near < allowed.size:
        if found < width and statistics[COMPLETE] == 1.0:
            statistics[EXACT] = 1.0
            return search_one(query, request, index, allowed, hits)
        statistics[EXACT] = 0.0
    entries, total = measure_lists(query, index)
    statistics[TERMS], statistics[POSTINGS], statistics[BOUND] = count, entries, total * index.scale
    statistics[RESCORED] = near
    statistics[SCORED] += near * count
    return kept


@njit(cache=True, nogil=True)
def search_row(terms, weights, request, index, allowed, hits):
    """Answer one query; returns a status, see `thresher.search.kernels.types`.

    terms, weights   int64[n], float32[n]   see `normalise_query`
    request          (k, plan, limits, least, deadline), fields of `Request`
    index, allowed   `Postings`, `Allowed`
    hits             (docs, scores, statistics), the fields of `Hits`   out
    """
    k, plan, limits, least, deadline = request
    docs, scores, statistics = hits
    statistics[:] = 0
    own_terms, own_weights = np.empty(terms.shape[0], np.uint32), np.empty(terms.shape[0], np.float64)
    most = limits.terms if limits.candidates == 0 else terms.shape[0]
    kept, dropped = normalise_query(terms, weights, index.rows.shape[0], most, own_terms, own_weights)
    if kept < 0:
        return np.int64(BAD_WEIGHT)
    statistics[EXACT], statistics[COMPLETE] = dropped == 0, 1.0
    if is_late(deadline, statistics):
        return np.int64(DONE)
    for i in range(kept):
        term = own_terms[i]
        if index.validated[term] == 0:
            fault = validate(term, index)
            if fault > 0:
                return np.int64(term) * FAULTS + fault
            index.validated[term] = 1
    query, out = QueryTerms(own_terms[:kept], own_weights[:kept]), Hits(docs, scores, statistics)
    asked = Request(k, plan, limits, least, deadline, False)
    some = Allowed(allowed.mask, allowed.docs, allowed.superblocks, allowed.size)
    if kept > limits.terms or limits.postings < 1.0 or limits.left_out > 0.0:
        found = search_in_steps(query, asked, index, some, out)
    else:
        found = search_one(query, asked, index, some, out)
    while found > 0 and scores[found - 1] < least:  # a threshold in sums is a little below the score
        found -= 1
    statistics[HITS] = found
    return np.int64(DONE)


@njit(cache=True, nogil=True)
def search_many(counter, indptr, terms, weights, request, index, allowed, hits):
    """Answer queries until the counter is at the end; threads may share it. Returns a status, as `search_row`.

    counter     int64[1]   in and out: the next query
    indptr      int64[q + 1], terms int64[nnz], weights float32[nnz]
    request     (k, plan, limits, least, deadline), as in `search_row`, but least float64[q]
    hits        (docs uint32[q, k'], scores float64[q, k'], statistics float64[q, STATISTICS])   out
    """
    docs, scores, statistics = hits
    k, plan, limits, least, deadline = request
    while True:
        q = take(counter)
        if q >= indptr.shape[0] - 1:
            return np.int64(DONE)
        first, last = indptr[q], indptr[q + 1]
        out = (docs[q], scores[q], statistics[q])
        own = (k, plan, limits, least[q], deadline)
        status = search_row(terms[first:last], weights[first:last], own, index, allowed, out)
        if status != DONE:
            return status if status >= 0 else np.int64(BAD_WEIGHT - q)
