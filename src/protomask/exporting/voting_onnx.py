"""`protomask.ops.voting.count_votes` as a function of ONNX; needs the packages that write such files.

onnxscript reads the text of the function: names must be those of this module, annotations no strings.
"""

# mypy: disable-error-code="no-untyped-def, misc, valid-type, untyped-decorator"

from onnxscript import BOOL, FLOAT, INT64, graph, script
from onnxscript import opset18 as op


@script(default_opset=op)
def vote(
    boxes: FLOAT[None, 4], masks: FLOAT[None, None, None], weights: FLOAT[None, None], image_size: FLOAT[2]
) -> tuple[FLOAT[None, 4], FLOAT[None, None, None], FLOAT[None]]:
    count = op.Squeeze(op.Shape(weights, start=0, end=1))
    cells = op.Cast(op.Squeeze(op.Shape(masks, start=1, end=2)), to=1)
    going = op.Constant(value_int=1)

    @graph()
    def body(index: INT64, condition: BOOL):
        zero = op.Constant(value_float=0.0)
        one = op.Constant(value_float=1.0)
        half = op.Constant(value_float=0.5)
        enough = op.Constant(value_float=0.4)
        grid = op.Range(zero, cells, one)
        row = op.Gather(weights, index, axis=0)
        voters = op.Squeeze(op.NonZero(row), op.Constant(value_ints=[0]))
        own = op.Gather(boxes, voters, axis=0)
        probs = op.Gather(masks, voters, axis=0)
        low = op.ReduceMin(own, op.Constant(value_ints=[0]), keepdims=0)
        high = op.ReduceMax(own, op.Constant(value_ints=[0]), keepdims=0)
        ring = op.Constant(value_float=2.0)
        x = op.Range(
            op.Gather(low, op.Constant(value_int=0)) - one, op.Gather(high, op.Constant(value_int=2)) + ring, one
        )
        y = op.Range(
            op.Gather(low, op.Constant(value_int=1)) - one, op.Gather(high, op.Constant(value_int=3)) + ring, one
        )
        x1 = op.Gather(own, op.Constant(value_ints=[0]), axis=1)
        y1 = op.Gather(own, op.Constant(value_ints=[1]), axis=1)
        x2 = op.Gather(own, op.Constant(value_ints=[2]), axis=1)
        y2 = op.Gather(own, op.Constant(value_ints=[3]), axis=1)
        last = cells - one
        px = op.Min(op.Max((x - x1 + half) * (cells / (x2 - x1 + one)) - half, zero), last)
        py = op.Min(op.Max((y - y1 + half) * (cells / (y2 - y1 + one)) - half, zero), last)
        in_x = op.Cast(op.And(op.GreaterOrEqual(x, x1), op.LessOrEqual(x, x2)), to=1)
        in_y = op.Cast(op.And(op.GreaterOrEqual(y, y1), op.LessOrEqual(y, y2)), to=1)
        end = op.Constant(value_ints=[-1])
        across = op.Relu(one - op.Abs(op.Unsqueeze(px, end) - grid)) * op.Unsqueeze(in_x, end)
        down = op.Relu(one - op.Abs(op.Unsqueeze(py, end) - grid)) * op.Unsqueeze(in_y, end)
        drawn = op.MatMul(op.MatMul(down, probs), op.Transpose(across, perm=[0, 2, 1]))
        votes = op.Cast(op.GreaterOrEqual(drawn, enough), to=1)
        counts = op.Unsqueeze(op.Gather(row, voters), op.Constant(value_ints=[1, 2]))
        shares = op.ReduceSum(votes * counts, op.Constant(value_ints=[0]), keepdims=0)
        above = op.Cast(op.GreaterOrEqual(shares, enough), to=1)
        in_rows = op.Greater(op.ReduceMax(above, op.Constant(value_ints=[1]), keepdims=0), half)
        in_columns = op.Greater(op.ReduceMax(above, op.Constant(value_ints=[0]), keepdims=0), half)
        far = op.Constant(value_float=1e6)
        top = op.ReduceMin(op.Where(in_rows, y, far), keepdims=0)
        bottom = op.ReduceMax(op.Where(in_rows, y, zero - far), keepdims=0) + one
        left = op.ReduceMin(op.Where(in_columns, x, far), keepdims=0)
        right = op.ReduceMax(op.Where(in_columns, x, zero - far), keepdims=0) + one
        there = op.Cast(op.And(op.Greater(bottom - top, one), op.Greater(right - left, one)), to=1)
        height = op.Gather(image_size, op.Constant(value_int=0))
        width = op.Gather(image_size, op.Constant(value_int=1))
        qy = op.Min(op.Max(top + (grid + half) * ((bottom - top) / cells) - half, zero), height - one)
        qx = op.Min(op.Max(left + (grid + half) * ((right - left) / cells) - half, zero), width - one)
        pick_rows = op.Relu(one - op.Abs(op.Unsqueeze(qy, end) - y))
        pick_columns = op.Relu(one - op.Abs(op.Unsqueeze(qx, end) - x))
        sampled = op.MatMul(op.MatMul(pick_rows, shares), op.Transpose(pick_columns, perm=[1, 0]))
        start = op.Constant(value_ints=[0])
        box = op.Concat(
            op.Unsqueeze(left, start),
            op.Unsqueeze(top, start),
            op.Unsqueeze(right, start),
            op.Unsqueeze(bottom, start),
            axis=0,
        )
        return op.Identity(condition), op.Where(op.Greater(there, half), box, op.Mul(box, zero)), sampled, there

    voted, sampled, there = op.Loop(count, op.Cast(going, to=9), body=body)
    return voted, sampled, there
