"""Tensor trains: shapes, cores, decomposition, and the layers that store their weights in them.

Trains go to tensorly and come from there without a change of order:

    from fercompress.tt import from_tensorly, to_tensorly
    matrix = to_tensorly(cores)      # tensorly.tt_matrix.TTMatrix
    cores = from_tensorly(matrix)    # torch tensors, k-th (r[k], outputs[k], inputs[k], r[k + 1])
"""

from fercompress.tt.cores import from_tensorly, to_tensorly

__all__ = ["from_tensorly", "to_tensorly"]
