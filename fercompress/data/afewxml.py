"""Who plays in a clip of AFEW, and in which movie: an annotation file and the clips' ids in, what it tells of each id out.

Public descriptions agree on the attributes `NameOfActor` and `MovieTitle` and on little else, and an id is the clip's start within its movie
(000543854: 0 h 05 min 43.854 s). So a record is found by what it holds: the smallest element with one id, as digits, whatever stands between
them, and an actor or a movie. An element that holds several ids says nothing about any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from fercompress.data import xmlfile

ID_DIGITS = 9


@dataclass(frozen=True)
class Told:
    """actor: several, in alphabetical order, are joined by " + "; "" where not told"""

    actor: str
    movie: str


def people(path: Path, ids: set[str]) -> dict[str, Told]:
    """id -> what the file tells of it; ids that it does not name, or names in two records with different people, are not there. raises: DataError"""
    root = xmlfile.read(path)
    told: dict[str, Told] = {}
    contradicted = set()
    for clip, record, outer in _records(root, ids):
        if clip not in ids:
            continue
        actors = sorted(_values(record, "NameOfActor"))
        movies = _values(record, "MovieTitle") or {element.get("MovieTitle", "").strip() for element in outer} - {""}
        found = Told(" + ".join(actors), movies.pop() if len(movies) == 1 else "")
        if told.setdefault(clip, found) != found:
            contradicted.add(clip)
    return {clip: found for clip, found in told.items() if clip not in contradicted}


def _values(record: Element, name: str) -> set[str]:
    texts = {element.get(name, "") for element in record.iter()} | {element.text or "" for element in record.iter(name)}
    return {" ".join(text.split()) for text in texts} - {""}


def _records(root: Element, ids: set[str]) -> Iterator[tuple[str, Element, list[Element]]]:
    """(id, its record, the elements around it)"""
    inside: dict[int, set[str]] = {}

    def gather(element: Element) -> set[str]:
        found = _ids(element, ids).union(*(gather(child) for child in element))
        inside[id(element)] = found
        return found

    def walk(element: Element, outer: list[Element]) -> Iterator[tuple[str, Element, list[Element]]]:
        smaller = [record for child in element for record in walk(child, [*outer, element])]
        yield from smaller
        found = inside[id(element)]
        if not smaller and len(found) == 1 and (_values(element, "NameOfActor") or _values(element, "MovieTitle")):
            yield next(iter(found)), element, outer

    gather(root)
    yield from walk(root, [])


def _ids(element: Element, ids: set[str]) -> set[str]:
    """Ids that an attribute, or the text, of this element alone spells: of one that is known, other times beside it are none.

    The ending of a file's name is no part of it.
    """
    texts = [*element.attrib.values(), element.text or ""]
    digits = (re.sub(r"\D", "", re.sub(r"\.(avi|mp4)$", "", text.strip().lower()), flags=re.ASCII) for text in texts if len(text) < 100)
    found = {number for number in digits if len(number) == ID_DIGITS}
    return found & ids or found
