"""A predictor in plain numpy, for boards whose Python has no wheel of a runtime: `predictor.npz` in, logits out, by whole clips or step by step.

The file (fercompress/export/numpy_file.py writes it) is an uncompressed .npz whose entry `meta` is JSON: the layers in order, each with its
tensors' shapes. Tensors lie one behind the other in the entries floats (float32), halves (float16), codes (int8) and nibbles (uint8, two codes
of 4 bits each: the first half of a tensor's codes in the high ones), in the order of `meta`. Whatever is stored becomes float32 at load; a
train's cores are merged there too, to the matrices that its execution multiplies.
"""

import json
import os

from fercompress_agent import Problem
from fercompress_agent.engine_onnxruntime import Arrays

FORMAT = 1


class Numpy(Arrays):
    """features float32 (1, T, D) -> logits (classes,). Products are two-dimensional: older numpy hands no others to its fast library."""

    parts = ("predictor",)

    def load_predictor(self, folder, manifest):
        part = manifest["predictor"]
        self.joined_shape = tuple(part["input"]["shape"])
        self.read(os.path.join(folder, part["file"]))

    def read(self, file):
        """file: a path, or an open file. raises: Problem"""
        with self.numpy.load(file, allow_pickle=False) as entries:
            meta = json.loads(bytes(entries["meta"]).decode("ascii"))
            if meta["format"] != FORMAT:
                raise Problem("predictor of format {}, this agent reads {}: export the bundle again".format(meta["format"], FORMAT))
            tensors = Tensors(self.numpy, entries)
            self.layers = [LAYERS[layer["kind"]](self.numpy, layer, tensors) for layer in meta["layers"]]
        # What stands behind the last LSTM reads one state of it.
        behind = max(index for index, layer in enumerate(self.layers) if isinstance(layer, Lstm)) + 1
        self.body, self.head = self.layers[:behind], self.layers[behind:]
        self.reduce = meta["reduce"]
        self.streams = self.reduce == "last"

    def predict(self, joined):
        rows = joined[0]
        for layer in self.body:
            rows = layer.rows(rows)
        row = rows[-1:] if self.reduce == "last" else rows.mean(0)[None]
        for layer in self.head:
            row = layer.rows(row)
        return row[0]

    def state(self):
        return [layer.start() for layer in self.body if isinstance(layer, Lstm)]

    def step(self, features, state):
        """features: float32 (1, D)"""
        row, after = features, []
        for layer in self.body:
            if isinstance(layer, Lstm):
                hidden, cell = layer.step(layer.sums(row)[0], *state[len(after)])
                after.append((hidden, cell))
                row = hidden[None]
            else:
                row = layer.rows(row)
        for layer in self.head:
            row = layer.rows(row)
        return row[0], after


class Tensors:
    """Takes the stored tensors in their order."""

    ENTRIES = {32: "floats", 16: "halves", 8: "codes", 4: "nibbles"}

    def __init__(self, numpy, entries):
        self.numpy = numpy
        self.entries = {bits: entries[name] for bits, name in self.ENTRIES.items()}
        self.taken = dict.fromkeys(self.entries, 0)

    def take(self, described):
        """The next tensor as float32: `shape`, `bits`, and `scales` (their shape) where it is stored as codes."""
        numpy, shape, bits = self.numpy, described["shape"], described["bits"]
        count = 1
        for size in shape:
            count *= size
        if bits == 4:
            pairs = self._next(4, (count + 1) // 2)
            value = numpy.concatenate([pairs >> 4, pairs & 15])[:count].astype(numpy.float32) - numpy.float32(8)
        else:
            value = self._next(bits, count).astype(numpy.float32)
        value = value.reshape(shape)
        if "scales" in described:
            scale = self.take({"shape": described["scales"], "bits": 16})
            for axis in range(scale.ndim):  # scales belong to the last axes; those that fewer scales than numbers lie along are repeated
                numbers, scales = value.shape[axis + value.ndim - scale.ndim], scale.shape[axis]
                if scales not in (1, numbers):
                    scale = scale.repeat(numbers // scales, axis)
            value *= scale
        return value

    def _next(self, bits, count):
        start = self.taken[bits]
        self.taken[bits] += count
        found = self.entries[bits][start : start + count]
        if len(found) != count:
            raise Problem("the predictor's file ends inside a tensor: export the bundle again")
        return found

    def maybe(self, described):
        return None if described is None else self.take(described)


class Linear:
    """Of the whole row, or of each of its equal pieces (a 1x1 convolution of feature maps whose channels come last)."""

    def __init__(self, numpy, layer, tensors):
        weight = tensors.take(layer["weight"])
        self.weight = weight.reshape(-1, weight.shape[-1])  # (inputs, outputs)
        self.bias = tensors.maybe(layer["bias"])

    def rows(self, rows):
        product = rows.reshape(-1, len(self.weight)).dot(self.weight)
        if self.bias is not None:
            product += self.bias
        return product.reshape(len(rows), -1)


class Pool:
    """The mean over the positions of feature maps whose `channels` come last."""

    def __init__(self, numpy, layer, tensors):
        self.channels = layer["channels"]

    def rows(self, rows):
        return rows.reshape(len(rows), -1, self.channels).mean(1)


class Normal:
    """Layer normalization of each row."""

    def __init__(self, numpy, layer, tensors):
        self.numpy, self.epsilon = numpy, layer["epsilon"]
        self.weight, self.bias = tensors.maybe(layer["weight"]), tensors.maybe(layer["bias"])

    def rows(self, rows):
        rows = rows - rows.mean(1)[:, None]
        rows = rows / self.numpy.sqrt((rows * rows).mean(1)[:, None] + self.numpy.float32(self.epsilon))
        if self.weight is not None:
            rows = rows * self.weight
        return rows if self.bias is None else rows + self.bias


class Point:
    """A function of each number."""

    def __init__(self, numpy, layer, tensors):
        self.numpy, self.kind = numpy, layer["kind"]

    def rows(self, rows):
        if self.kind == "relu":
            return self.numpy.maximum(rows, 0)
        return self.numpy.tanh(rows) if self.kind == "tanh" else self.numpy.tanh(rows * 0.5) * 0.5 + 0.5


class Lstm:
    """One layer in one direction; gates in torch's order i, f, g, o.

    sigmoid(x) = (tanh(x / 2) + 1) / 2, so that one tanh serves all gates and no exponential overflows: what leads to the other three gates than
    g is halved at load.
    """

    def __init__(self, numpy, layer, tensors):
        self.numpy = numpy
        self.project = PROJECTIONS[layer["execution"]](numpy, layer, _cores(layer["input"], tensors))
        hidden = _matrix(numpy, layer["hidden"], _cores(layer["hidden"], tensors))
        self.size = hidden.shape[1]
        half = numpy.full(4 * self.size, 0.5, numpy.float32)
        half[2 * self.size : 3 * self.size] = 1
        self.half = half
        self.recurrent = numpy.ascontiguousarray(hidden.T) * half
        bias = tensors.maybe(layer["bias"])
        self.bias = None if bias is None else bias * half

    def start(self):
        zeros = self.numpy.zeros(self.size, self.numpy.float32)
        return zeros, zeros

    def sums(self, rows):
        sums = self.project(rows) * self.half
        return sums if self.bias is None else sums + self.bias

    def step(self, sums, hidden, cell):
        tanh, size = self.numpy.tanh, self.size
        gates = tanh(sums + hidden.dot(self.recurrent))
        open_ = gates * self.numpy.float32(0.5) + self.numpy.float32(0.5)
        cell = open_[size : 2 * size] * cell + open_[:size] * gates[2 * size : 3 * size]
        return open_[3 * size :] * tanh(cell), cell

    def rows(self, rows):
        hidden, cell = self.start()
        states = self.numpy.empty((len(rows), self.size), self.numpy.float32)
        for place, sums in enumerate(self.sums(rows)):
            hidden, cell = self.step(sums, hidden, cell)
            states[place] = hidden
        return states


class Dense:
    """All of the matrix at once."""

    def __init__(self, numpy, layer, cores):
        self.weight = numpy.ascontiguousarray(_matrix(numpy, layer["input"], cores).T)

    def __call__(self, rows):
        return rows.dot(self.weight)


class TwoProducts:
    """The train cut at one bond: y = left x right, one half after the other. An asymmetric train's right half is its last core, of one output."""

    def __init__(self, numpy, layer, cores):
        cut = layer["cut"]
        left, right = _merged(numpy, cores[:cut])[0], _merged(numpy, cores[cut:])[..., 0]
        (self.m1, self.n1, self.rank), (_, self.m2, self.n2) = left.shape, right.shape
        self.right_first = layer["first"] == "right"
        if self.right_first:
            self.left = numpy.ascontiguousarray(left.reshape(self.m1, -1).T)  # ((N1 R), M1)
            self.right = numpy.ascontiguousarray(right.transpose(2, 0, 1).reshape(self.n2, -1))  # (N2, (R M2))
        else:
            self.left = numpy.ascontiguousarray(left.transpose(1, 0, 2).reshape(self.n1, -1))  # (N1, (M1 R))
            self.right = numpy.ascontiguousarray(right.transpose(0, 2, 1).reshape(-1, self.m2))  # ((R N2), M2)

    def __call__(self, rows):
        steps = len(rows)
        if self.right_first:
            between = rows.reshape(-1, self.n2).dot(self.right)
            between = between.reshape(steps, self.n1 * self.rank, self.m2).transpose(0, 2, 1).reshape(steps * self.m2, -1)
            return between.dot(self.left).reshape(steps, self.m2, self.m1).transpose(0, 2, 1).reshape(steps, -1)
        between = rows.reshape(steps, self.n1, self.n2).transpose(0, 2, 1).reshape(-1, self.n1).dot(self.left)
        between = between.reshape(steps, self.n2, self.m1, self.rank).transpose(0, 2, 3, 1).reshape(steps * self.m1, -1)
        return between.dot(self.right).reshape(steps, -1)


LAYERS = {"linear": Linear, "pool": Pool, "layernorm": Normal, "relu": Point, "tanh": Point, "sigmoid": Point, "lstm": Lstm}
PROJECTIONS = {"dense": Dense, "asymmetric": TwoProducts, "two-gemm": TwoProducts}


def _cores(described, tensors):
    return [tensors.take(core) for core in described["cores"]]


def _merged(numpy, cores):
    """(l, o, i, r) of each core -> (L, O, I, R) of all of them."""
    whole = cores[0]
    for core in cores[1:]:
        wide = numpy.tensordot(whole, core, 1).transpose(0, 1, 3, 2, 4, 5)
        left, first_out, out, first_in, in_, right = wide.shape
        whole = wide.reshape(left, first_out * out, first_in * in_, right)
    return whole


def _matrix(numpy, described, cores):
    """The matrix (rows, columns): of a train without its padding, or the one that is stored."""
    matrix = cores[0] if cores[0].ndim == 2 else _merged(numpy, cores)[0, :, :, 0]
    return matrix[: described["rows"], : described["columns"]]
