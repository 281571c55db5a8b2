"""The explanation's pictures: nothing in, SVG files out: python docs/fercompress_docs/figures.py docs/pages/figures"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

INK, BLUE, ORANGE, GREY, PAPER = "#222", "#3b6ea5", "#d07a1f", "#9aa3ad", "#fff"


def text(x: float, y: float, words: str, size: int = 14, colour: str = INK, anchor: str = "middle", weight: str = "normal") -> str:
    style = f'font-size="{size}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{words}</text>'


def box(x: float, y: float, width: float, height: float, fill: str = PAPER, stroke: str = INK) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" stroke="{stroke}" rx="2"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{INK}" stroke-width="1.5" marker-end="url(#head)"/>'


def picture(width: int, height: int, parts: Sequence[str], title: str) -> str:
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>'
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'font-family="Helvetica, Arial, sans-serif">\n<title>{title}</title>\n{head}\n'
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>\n{body}\n</svg>\n'
    )


def grid(x: float, y: float, numbers: Sequence[Sequence[int]], cell: float, colour: Callable[[int, int], str]) -> list[str]:
    """numbers: rows of a matrix; colour: of row and column"""
    parts = []
    for row, line in enumerate(numbers):
        for column, number in enumerate(line):
            parts.append(box(x + column * cell, y + row * cell, cell, cell, colour(row, column), GREY))
            parts.append(text(x + (column + 0.5) * cell, y + (row + 0.5) * cell + 5, str(number)))
    return parts


def train() -> str:
    """The worked example: the matrix, sorted by digits, its two cores."""
    a = [[1, 2], [3, 4]]
    matrix = [[a[i // 2][j // 2] * a[i % 2][j % 2] for j in range(4)] for i in range(4)]
    flat = [a[i][j] for i in range(2) for j in range(2)]
    by_digits = [[first * second for second in flat] for first in flat]
    tints = ["#e8f0f8", "#cfe0f0", "#f8ecdd", "#f0d8ba"]

    def block(row: int, column: int) -> str:
        return tints[2 * (row // 2) + column // 2]

    def by_row(row: int, _: int) -> str:
        return tints[row]

    parts = [text(90, 28, "the matrix", weight="bold"), *grid(10, 44, matrix, 40, block), text(90, 226, "16 numbers")]
    parts += [arrow(182, 124, 232, 124), text(207, 112, "sort", 12)]
    parts += [text(325, 28, "sorted by digits", weight="bold"), *grid(245, 44, by_digits, 40, by_row), text(325, 226, "each row a multiple of one")]
    parts += [arrow(417, 124, 467, 124), text(442, 112, "cut", 12)]
    parts += [text(535, 28, "core 1", weight="bold"), *grid(515, 44, [[each] for each in flat], 40, by_row), text(535, 226, "4 numbers")]
    parts += [
        text(580, 130, "×", 22),
        text(690, 28, "core 2", weight="bold"),
        *grid(610, 104, [flat], 40, lambda *_: PAPER),
        text(690, 226, "4 numbers"),
    ]
    parts += [text(580, 168, "rank 1", 12, BLUE)]
    return picture(790, 244, parts, "A 4 by 4 matrix becomes two cores of four numbers each")


def _maps(x: float, y: float, channels: int, side: float, colour: str) -> list[str]:
    return [box(x + 7 * k, y - 7 * k, side, side, colour) for k in reversed(range(channels))]


def asymmetric() -> str:
    """An asymmetric train at run time."""
    parts = [*_maps(20, 110, 6, 70, "#cfe0f0"), text(88, 215, "a frame's feature map"), text(88, 233, "h × w × channels", 12, GREY)]
    parts += [arrow(140, 130, 205, 130), text(172, 118, "last core", 12, BLUE), text(172, 152, "channels × r", 12, BLUE)]
    parts += [*_maps(220, 120, 2, 70, "#f0d8ba"), text(260, 215, "h × w × r"), arrow(310, 145, 375, 145)]
    parts += [text(342, 133, "other cores,", 12, BLUE), text(342, 167, "merged once", 12, BLUE)]
    parts += [box(390, 90, 150, 100, "#e8f0f8"), text(465, 135, "LSTM", 18, weight="bold"), text(465, 158, "few inputs", 12, GREY)]
    parts += [text(465, 215, "all frames, one after the other"), arrow(540, 140, 605, 140), text(625, 145, "label", 14, anchor="start")]
    parts += [text(340, 30, "An asymmetric tensor train while it runs", 16, weight="bold")]
    return picture(690, 250, parts, "An asymmetric tensor train at run time")


def bottleneck() -> str:
    """Tensor train and bottleneck beside each other."""
    parts = []
    rows = (("tensor train", "last core", "LSTM of the teacher's size", "matrices are trains of small cores", "begins at the teacher's weights"),
            ("bottleneck", "1×1 convolution", "LSTM of any size", "matrices are dense", "begins at random"))  # fmt: skip
    for place, (name, mix, lstm, inside, start) in enumerate(rows):
        y = 40 + 150 * place
        parts += [text(20, y - 12, name, 16, BLUE if place == 0 else ORANGE, "start", "bold")]
        parts += [
            *_maps(20, y + 35, 5, 55, "#cfe0f0"),
            arrow(115, y + 55, 235, y + 55),
            text(175, y + 45, mix, 13),
            text(175, y + 74, "channels → r", 12, GREY),
        ]
        parts += [*_maps(250, y + 28, 2, 55, "#f0d8ba"), arrow(322, y + 55, 372, y + 55)]
        parts += [box(385, y + 5, 260, 100, "#e8f0f8" if place == 0 else "#f8ecdd"), text(515, y + 35, lstm, 15, weight="bold")]
        parts += [text(515, y + 60, inside, 13), text(515, y + 84, start, 13)]
    return picture(665, 310, parts, "Tensor train and bottleneck: the same mixing of channels, another LSTM")


def drifted(mirrored: bool, rounds: int = 4) -> tuple[list[tuple[str, float]], float]:
    """Times of two equal variants on a machine that slows down by 2 % with every block, and A's mean over B's, less 1."""
    order = "".join("ABBA" if place % 2 == 0 else "BAAB" for place in range(rounds // 2)) if mirrored else "A" * rounds + "B" * rounds
    times = [(name, 1.0 + 0.02 * place) for place, name in enumerate(order)]
    mean = {name: sum(value for each, value in times if each == name) / order.count(name) for name in "AB"}
    return times, mean["B"] / mean["A"] - 1


def rounds() -> str:
    parts = []
    for place, (mirrored, title) in enumerate(((False, "all of A, then all of B"), (True, "mirrored rounds"))):
        left = 40 + 380 * place
        times, apart = drifted(mirrored)
        parts += [text(left + 150, 28, title, 16, weight="bold"), f'<line x1="{left}" y1="200" x2="{left + 310}" y2="200" stroke="{INK}"/>']
        for number, (name, value) in enumerate(times):
            height = 120 * value - 20
            parts += [
                box(left + 8 + 38 * number, 200 - height, 28, height, BLUE if name == "A" else ORANGE, PAPER),
                text(left + 22 + 38 * number, 218, name),
            ]
        parts.append(text(left + 150, 246, f"B looks {100 * apart:.1f} % slower" if apart > 1e-9 else "A and B look equal", 14, weight="bold"))
    parts += [text(16, 130, "time", 12, GREY)]
    return picture(780, 262, parts, "A machine that slows down by 2 % with every block, two variants that are equal")


FIGURES = {"train.svg": train, "asymmetric.svg": asymmetric, "bottleneck.svg": bottleneck, "rounds.svg": rounds}


def main() -> None:
    folder = Path(sys.argv[1])
    for name, drawn in FIGURES.items():
        (folder / name).write_text(drawn(), encoding="utf-8")


if __name__ == "__main__":
    main()
