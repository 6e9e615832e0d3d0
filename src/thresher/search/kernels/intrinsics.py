"""Instructions that numba does not offer: a prefetch hint, and an atomic counter for threads.

Scoring superblock by superblock reads a few dozen postings of each of dozens of lists, then moves on: too many streams,
each too short, for the hardware to predict. The hint (LLVM's `prefetch`) changes no result and reads nothing out of
bounds.

Threads that answer the queries of one batch take the next one from a counter, so that all end together and none needs
the interpreter's lock meanwhile.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

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


def _prefetch_nothing(array, index):
    """`prefetch` without a compiler."""


def _take_alone(counter):
    """`take` without a compiler, for one thread."""
    number = int(counter[0])
    counter[0] += 1
    return number


prefetch, take = (_prefetch_nothing, _take_alone) if config.DISABLE_JIT else (_prefetch, _take)
