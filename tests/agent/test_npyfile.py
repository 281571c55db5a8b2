"""The .npy format against bytes that numpy wrote."""

import os
import struct
import tempfile
import unittest

from fercompress_agent import Problem, npyfile

# numpy.save of uint8 [[1, 2, 3], [4, 5, 6]], byte for byte (numpy 2.4)
BY_NUMPY = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }" + b" " * 58 + b"\n" + bytes([1, 2, 3, 4, 5, 6])


class NpyTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "a.npy")

    def write(self, data):
        with open(self.path, "wb") as file:
            file.write(data)

    def rows(self):
        rows = npyfile.Rows(self.path)
        self.addCleanup(rows.close)
        return rows

    def test_rows_of_a_file_that_numpy_wrote_are_read(self):
        self.write(BY_NUMPY)
        rows = self.rows()
        self.assertEqual((rows.dtype, rows.shape), ("|u1", (2, 3)))
        self.assertEqual(rows.row(1), bytes([4, 5, 6]))
        self.assertEqual(rows.row(0), bytes([1, 2, 3]))

    def test_a_written_header_equals_that_of_numpy(self):
        with open(self.path, "wb") as file:
            npyfile.write_header(file, "|u1", (2, 3))
            file.write(bytes([1, 2, 3, 4, 5, 6]))
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), BY_NUMPY)

    def test_floats_come_back_as_float32(self):
        npyfile.write_floats(self.path, [[1.5, -2.0], [0.1, 3e38]])
        rows = self.rows()
        self.assertEqual((rows.dtype, rows.shape), ("<f4", (2, 2)))
        self.assertEqual(struct.unpack("<2f", rows.row(0)), (1.5, -2.0))
        self.assertAlmostEqual(struct.unpack("<2f", rows.row(1))[0], 0.1, 6)

    def test_what_cannot_be_read_is_refused_with_its_name(self):
        good = BY_NUMPY
        for data in (b"", b"PK\x03\x04", good[:9], good.replace(b"|u1", b"|O1"), good.replace(b"False", b"True "), good.replace(b"(2, 3)", b"(2, 3 "),
                     good.replace(b"'shape'", b"'sharp'"), good.replace(b"(2, 3)", b"()    ")):  # fmt: skip
            self.write(data)
            with self.assertRaises(Problem) as caught:
                npyfile.Rows(self.path)
            self.assertIn(self.path, str(caught.exception))

    def test_a_row_outside_or_behind_the_end_is_refused(self):
        self.write(BY_NUMPY[:-1])
        rows = self.rows()
        for index in (-1, 2, 1):
            with self.assertRaises(Problem):
                rows.row(index)


if __name__ == "__main__":
    unittest.main()
