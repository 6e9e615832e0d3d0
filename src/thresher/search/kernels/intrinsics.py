"""Instructions that numba does not offer: a prefetch hint, an atomic counter for threads, and the clock.

Scoring superblock by superblock reads a few dozen postings of each of dozens of lists, then moves on: too many streams,
each too short, for the hardware to predict. The hint (LLVM's `prefetch`) changes no result and reads nothing out of
bounds.

Threads that answer the queries of one batch take the next one from a counter, so that all end together and none needs
the interpreter's lock meanwhile.

Deadlines are looked at inside loops, by the C library's `clock_gettime`, which takes some 30 ns. Where there is none
(Windows) compiled loops see no time pass, and deadlines are looked at between the parts of an index only.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import time

from llvmlite import ir
from numba import config
from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
def _prefetch(typingctx, array, index):
    """Prefetch array[index]; the index may be out of bounds."""
    if not isinstance(array, types.Array) or not isinstance(index, types.Integer):
        return None

    def codegen(context, builder, signature, args):
        made = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.bitcast(builder.gep(made.data, [args[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, index), codegen


@intrinsic
def _take(typingctx, counter):
    """counter[0], int64, incremented atomically: no two threads get the same number."""
    if not isinstance(counter, types.Array) or counter.dtype != types.int64:
        return None

    def codegen(context, builder, signature, args):
        made = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", made.data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen


_CLOCK = getattr(time, "CLOCK_MONOTONIC", -1)


@intrinsic
def _clock(typingctx):
    """Nanoseconds of the monotonic clock, int64; 0 where there is none."""

    def codegen(context, builder, signature, args):
        number, small = ir.IntType(64), ir.IntType(32)
        if _CLOCK < 0:
            return ir.Constant(number, 0)
        now = cgutils.alloca_once(builder, ir.ArrayType(number, 2))  # struct timespec: seconds, nanoseconds
        kind = ir.FunctionType(small, [small, now.type])
        function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(function, [small(_CLOCK), now])
        read = builder.load(now)
        seconds, rest = builder.extract_value(read, 0), builder.extract_value(read, 1)
        return builder.add(builder.mul(seconds, number(1_000_000_000)), rest)

    return types.int64(), codegen


def _clock_alone():
    """`clock` without a compiler."""
    return time.clock_gettime_ns(_CLOCK) if _CLOCK >= 0 else 0


def _prefetch_nothing(array, index):
    """`prefetch` without a compiler."""


def _take_alone(counter):
    """`take` without a compiler, for one thread."""
    number = int(counter[0])
    counter[0] += 1
    return number


plain, compiled = (_prefetch_nothing, _take_alone, _clock_alone), (_prefetch, _take, _clock)
prefetch, take, clock = plain if config.DISABLE_JIT else compiled
