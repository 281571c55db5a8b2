"""onnxruntime's C interface through ctypes: a library's path in, sessions and tensors out; neither numpy nor the Python package is imported.

The interface is one table of functions, `OrtApi` in onnxruntime_c_api.h, which is only ever lengthened at its end: a place stays a function's own.
"""

import ctypes

from fercompress_agent import Problem

_API_VERSION = 6  # of onnxruntime 1.6 (2020), the oldest that ran on Python 3.6 and arm64; newer runtimes give it too
_MESSAGE, _CREATE_ENV, _CREATE_SESSION, _RUN, _CREATE_OPTIONS = 2, 3, 7, 9, 10
_SEVERITY, _INTRA_THREADS, _INTER_THREADS, _TENSOR_WITH_DATA, _MEMORY_INFO = 22, 24, 25, 49, 69
_RELEASE_STATUS, _RELEASE_VALUE = 93, 96
_ERRORS_ONLY, _FLOAT, _DEVICE_ALLOCATOR, _DEFAULT_MEMORY = 3, 1, 0, 0
_P = ctypes.c_void_p


class _Base(ctypes.Structure):
    _fields_ = [("api", ctypes.CFUNCTYPE(_P, ctypes.c_uint32)), ("version", ctypes.CFUNCTYPE(ctypes.c_char_p))]


class Library:
    """The loaded runtime. raises: Problem"""

    def __init__(self, path):
        try:
            get_base = ctypes.CDLL(path).OrtGetApiBase
        except (OSError, AttributeError) as error:
            raise Problem("{}: not a library of onnxruntime ({})".format(path, error))
        get_base.restype = ctypes.POINTER(_Base)
        base = get_base().contents
        self.version = base.version().decode("ascii")
        table = base.api(_API_VERSION)
        if not table:
            raise Problem("{}: onnxruntime {} has no C interface of version {}".format(path, self.version, _API_VERSION))
        self._table = ctypes.cast(table, ctypes.POINTER(_P))
        self._message = self._function(_MESSAGE, _P, result=ctypes.c_char_p)
        self._release_status = self._function(_RELEASE_STATUS, _P, result=None)
        self.release_value = self._function(_RELEASE_VALUE, _P, result=None)
        self._tensor = self._function(_TENSOR_WITH_DATA, _P, _P, ctypes.c_size_t, _P, ctypes.c_size_t, ctypes.c_int, _P)
        # Session, run options, input names, inputs, their number, output names, their number, outputs.
        self.run = self._function(_RUN, _P, _P, _P, _P, ctypes.c_size_t, _P, ctypes.c_size_t, _P)
        self._environment = self._made(self._function(_CREATE_ENV, ctypes.c_int, ctypes.c_char_p, _P), _ERRORS_ONLY, b"fercompress")
        self._memory = self._made(self._function(_MEMORY_INFO, ctypes.c_int, ctypes.c_int, _P), _DEVICE_ALLOCATOR, _DEFAULT_MEMORY)

    def _function(self, place, *types, result=_P):
        return ctypes.CFUNCTYPE(result, *types)(self._table[place])

    def check(self, status):
        """raises: Problem with the runtime's own words, for a call that failed"""
        if status:
            words = self._message(status).decode("utf-8", "replace")
            self._release_status(status)
            raise Problem("onnxruntime: {}".format(words))

    def _made(self, function, *arguments):
        made = _P()
        self.check(function(*(list(arguments) + [ctypes.byref(made)])))
        return made

    def session(self, path, threads):
        """Sequential, everything else as the runtime ships. path: bytes"""
        options = self._made(self._function(_CREATE_OPTIONS, _P))
        for place, number in ((_INTRA_THREADS, threads), (_INTER_THREADS, 1), (_SEVERITY, _ERRORS_ONLY)):
            self.check(self._function(place, _P, ctypes.c_int)(options, number))
        return self._made(self._function(_CREATE_SESSION, _P, ctypes.c_char_p, _P, _P), self._environment, path, options)

    def tensor(self, floats, shape, first=0):
        """A tensor over a ctypes array of c_float, from its number `first` on; shape: of that part."""
        return Tensor(self, floats, shape, first)

    def value(self, floats, shape, first):
        numbers = 1
        for size in shape:
            numbers *= size
        sizes = (ctypes.c_int64 * len(shape))(*shape)
        start = ctypes.addressof(floats) + 4 * first
        return self._made(self._tensor, self._memory, start, 4 * numbers, sizes, len(shape), _FLOAT)


class Tensor:
    """The runtime's view of numbers that stay where they are; `place` is what `run` takes as its inputs or outputs."""

    def __init__(self, library, floats, shape, first):
        self.floats = floats  # they must live as long as the view
        self._library = library
        self._value = library.value(floats, shape, first)
        self.place = (_P * 1)(self._value)

    def __del__(self):
        if getattr(self, "_value", None):
            self._library.release_value(self._value)


def names(name):
    """One name as `run` takes it."""
    return (ctypes.c_char_p * 1)(name.encode("utf-8"))
