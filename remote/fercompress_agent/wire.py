"""Frames over two descriptors: two big-endian 32-bit lengths, then a JSON object (ASCII), then raw bytes."""

import json
import os
import select
import struct

FRAME = struct.Struct(">II")
HEADER_LIMIT_BYTES = 1 << 20
BODY_LIMIT_BYTES = 1 << 20
IDLE_S = 60.0  # a host that lives asks something four times as often; one that only paused connects again
STALL_S = 60.0  # between the parts of one request or answer
PIPE_BYTES = 4096  # a pipe that is ready to be written takes so much without blocking (PIPE_BUF of Linux)


class Ended(Exception):
    """The link has ended, or another one has taken over."""


class Wire:
    """stall_s: within a frame, neither direction is waited for any longer; idle_s: nor between two frames"""

    def __init__(self, source, sink, stall_s=STALL_S, idle_s=IDLE_S):
        self.source = source
        self.sink = sink
        self.stall_s = stall_s
        self.idle_s = idle_s

    def receive(self):
        """raises: Ended"""
        header_bytes, body_bytes = FRAME.unpack(self._exactly(FRAME.size, self.idle_s))
        if header_bytes > HEADER_LIMIT_BYTES or body_bytes > BODY_LIMIT_BYTES:
            raise Ended("a frame of {} + {} bytes".format(header_bytes, body_bytes))
        header = json.loads(self._exactly(header_bytes, self.stall_s).decode("ascii"))
        return header, self._exactly(body_bytes, self.stall_s)

    def send(self, header, body=b""):
        """raises: Ended where nobody takes it: an SSH server that was stopped reads nothing and closes nothing"""
        text = json.dumps(header, sort_keys=True).encode("ascii")
        data = memoryview(FRAME.pack(len(text), len(body)) + text + body)
        while data:
            if not select.select([], [self.sink], [], self.stall_s)[1]:
                raise Ended("nobody reads")
            data = data[os.write(self.sink, data[:PIPE_BYTES]) :]

    def _exactly(self, size, wait_s):
        data = bytearray()
        while len(data) < size:
            if not select.select([self.source], [], [], wait_s)[0]:
                raise Ended("silence")
            piece = os.read(self.source, min(65536, size - len(data)))
            if not piece:
                raise Ended("end of input")
            data += piece
        return bytes(data)
