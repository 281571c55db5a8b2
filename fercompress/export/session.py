"""An onnxruntime session as this project runs its graphs: a file's content in, a session out."""

from __future__ import annotations

import onnxruntime


def session(content: bytes) -> onnxruntime.InferenceSession:
    """One thread on the CPU: the results then do not depend on the machine's core count."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
