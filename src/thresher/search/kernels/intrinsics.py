"""What kernels need of the processor and numba does not offer: a hint what will be read, and a counter for threads.

Scoring tile by tile reads a few dozen postings of each of dozens of lists, then moves on: too many streams, each too
short, for the hardware to guess. The hint (LLVM's `prefetch`) changes no result and reads nothing out of bounds.

Threads that answer the queries of one batch take the next one from a counter, so that all end together and none needs
the interpreter's lock meanwhile.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for array[index], an index that may lie anywhere."""
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
def take(typingctx, counter):
    """counter[0], int64, which is one more afterwards: no two threads get the same."""
    if not isinstance(counter, types.Array) or counter.dtype != types.int64:
        return None

    def codegen(context, builder, signature, args):
        made = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", made.data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen
