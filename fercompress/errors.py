"""Every error that fercompress raises on purpose, with the exit code that each one means.

FercompressError
├── InputError            2   what the user gave is wrong
│   ├── StudyError            a study file or an option
│   ├── ShapeError            ranks or factors that do not fit a layer
│   ├── DataError             a data set on disk
│   ├── ModelError            a user's model or weights
│   ├── BundleError           a bundle's files or manifest
│   └── ResultsError          a results file or a run folder
├── TargetError           4   the machine that measures, or this one, failed
│   ├── AgentError            the agent broke or answered nonsense
│   ├── TargetTimeoutError    no answer within the deadline
│   ├── TargetRebootedError   the target started anew while a command ran there
│   ├── TargetBusyError       another host measures there
│   └── DiskFullError         no space left to write
└── ComparabilityError    5   two results that must not be compared

A message says what happened, to whom, and what to do. Messages are the only argument, so that errors survive pickling.
"""


class FercompressError(Exception):
    """Root of the tree; `exit_code` is the process's exit code when it reaches the command line."""

    exit_code = 70


class InputError(FercompressError):
    exit_code = 2


class StudyError(InputError):
    pass


class ShapeError(InputError):
    pass


class DataError(InputError):
    pass


class ModelError(InputError):
    pass


class BundleError(InputError):
    pass


class ResultsError(InputError):
    pass


class TargetError(FercompressError):
    exit_code = 4


class AgentError(TargetError):
    pass


class TargetTimeoutError(TargetError):
    pass


class TargetRebootedError(TargetError):
    pass


class TargetBusyError(TargetError):
    pass


class DiskFullError(TargetError):
    pass


class ComparabilityError(FercompressError):
    exit_code = 5
