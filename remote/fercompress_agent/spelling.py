"""Names between a host, which writes UTF-8, and this Python: under LANG=C CPython 3.6 takes other letters than ASCII only as escaped bytes."""

import os

from fercompress_agent import Problem


def here(text):
    """A name or an argument as this Python spells it, so that the system sees its UTF-8 bytes. raises: Problem"""
    try:
        return os.fsdecode(str(text).encode("utf-8"))
    except UnicodeEncodeError:
        raise Problem("{} is not text that UTF-8 can hold".format(ascii(text)))


def told(name):
    """A name of this system as text for the host; what is not UTF-8 becomes U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace") if isinstance(name, (str, bytes)) else ""
