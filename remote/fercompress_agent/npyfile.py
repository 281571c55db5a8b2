"""NumPy's .npy files without numpy: clips are read and logits written by the standard library alone.

Source of the format: numpy.lib.format, versions 1 and 2. Little-endian (or byte-sized), C order only.
"""

import ast
import struct

from fercompress_agent import Problem

MAGIC = b"\x93NUMPY"
ITEM_BYTES = {"|u1": 1, "<f4": 4}


class Rows:
    """The rows (first axis) of one array on disk, read one at a time so that a large file costs no memory.

    dtype: "|u1" (uint8) or "<f4" (float32); shape: tuple of int
    """

    def __init__(self, path):
        self.path = path
        self.file = open(path, "rb")
        try:
            self.dtype, self.shape, self.offset = _header(self.file)
        except (ValueError, SyntaxError, KeyError, TypeError, struct.error) as error:
            self.file.close()
            raise Problem("{}: not a .npy file that the agent can read ({}); prepare the clips again".format(path, error))
        self.row_bytes = ITEM_BYTES[self.dtype] * product(self.shape[1:])

    def row(self, index):
        """Bytes of one row. raises: Problem outside the array or behind the file's end"""
        if not 0 <= index < self.shape[0]:
            raise Problem("{}: row {} of {} was asked for".format(self.path, index, self.shape[0]))
        self.file.seek(self.offset + index * self.row_bytes)
        data = self.file.read(self.row_bytes)
        if len(data) != self.row_bytes:
            raise Problem("{}: the file ends inside row {}; prepare the clips again".format(self.path, index))
        return data

    def close(self):
        self.file.close()


def _header(file):
    if file.read(6) != MAGIC:
        raise ValueError("no .npy magic")
    major = ord(file.read(1))
    file.read(1)
    length = struct.unpack("<H", file.read(2))[0] if major == 1 else struct.unpack("<I", file.read(4))[0]
    fields = ast.literal_eval(file.read(length).decode("latin-1"))
    if fields["fortran_order"]:
        raise ValueError("Fortran order")
    if fields["descr"] not in ITEM_BYTES:
        raise ValueError("dtype {}".format(fields["descr"]))
    shape = tuple(int(size) for size in fields["shape"])
    if not shape:
        raise ValueError("no axis")
    return fields["descr"], shape, file.tell()


def write_header(file, dtype, shape):
    """Start a .npy file of version 1; C-order data follows."""
    text = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}".format(dtype, tuple(shape))
    padding = -(len(MAGIC) + 4 + len(text) + 1) % 64
    header = (text + " " * padding + "\n").encode("latin-1")
    file.write(MAGIC + b"\x01\x00" + struct.pack("<H", len(header)) + header)


def write_floats(path, rows):
    """rows: N lists of K floats; writes float32 (N, K)."""
    width = len(rows[0]) if rows else 0
    with open(path, "wb") as file:
        write_header(file, "<f4", (len(rows), width))
        for row in rows:
            file.write(struct.pack("<{}f".format(width), *row))


def product(sizes):
    total = 1
    for size in sizes:
        total *= size
    return total
