"""XML from strangers: a small file in, its elements out. Entities are refused, so nothing outside the file is read and nothing in it multiplies."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from fercompress.errors import DataError

LARGEST_BYTES = 16 * 2**20
DEEPEST = 50


def read(path: Path) -> Element:
    """The root element; a name keeps its prefix. raises: DataError, one line"""
    builder = TreeBuilder()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise DataError(f"{path}: elements within elements, more than {DEEPEST} deep")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(*_: Any) -> None:
        raise DataError(f"{path}: declares entities, which are not read from a stranger's file; take the DOCTYPE out if you trust it")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.EntityDeclHandler = refuse
    try:
        content = path.read_bytes()
        if len(content) > LARGEST_BYTES:
            raise DataError(f"{path}: {len(content)} bytes; an annotation has no more than {LARGEST_BYTES}")
        parser.Parse(content, True)
        return builder.close()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise DataError(f"{path}: not well-formed XML ({error})") from error
