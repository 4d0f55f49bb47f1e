"""One HTML file with everything in it: images as data, no script, nothing that is fetched."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from model import thumbnail_type

__all__ = ["Section", "Tile", "page"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1, h2 { line-height: 1.2; font-weight: 600 } h2 { margin-top: 3rem }
p { max-width: 46rem }
.row { display: flex; flex-wrap: wrap; gap: .7rem; padding: .7rem 0; border-top: 1px solid #e4e4e4 }
figure { margin: 0; width: 8.2rem; font-size: .75rem; line-height: 1.3; overflow-wrap: anywhere }
figure img { width: 8.2rem; height: 8.2rem; object-fit: contain; background: #f4f4f4; display: block }
figure.first img { outline: 2px solid #222 }
figure b { font-weight: 600 }
.chart { max-width: 100% }
"""


@dataclass(frozen=True)
class Tile:
    """One image and what is said below it."""

    thumbnail: bytes  # PNG or JPEG
    title: str
    words: str = ""
    first: bool = False  # the image that the row is about


@dataclass(frozen=True)
class Section:
    """One report."""

    title: str
    words: Sequence[str]  # paragraphs
    chart: bytes | None = None  # PNG
    rows: Sequence[Sequence[Tile]] = ()


def page(title: str, words: Sequence[str], sections: Sequence[Section]) -> str:
    """Return the file's text."""
    body = "\n".join([f"<h1>{escape(title)}</h1>", *_paragraphs(words), *(_section(section) for section in sections)])
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _section(section: Section) -> str:
    chart = f'<img class="chart" alt="" src="{_data(section.chart)}">' if section.chart else ""
    rows = [f'<div class="row">{"".join(map(_tile, row))}</div>' for row in section.rows]
    return "\n".join([f"<h2>{escape(section.title)}</h2>", *_paragraphs(section.words), chart, *rows])


def _paragraphs(words: Sequence[str]) -> list[str]:
    return [f"<p>{escape(paragraph)}</p>" for paragraph in words]


def _tile(tile: Tile) -> str:
    kind = ' class="first"' if tile.first else ""
    said = f"<figcaption><b>{escape(tile.title)}</b><br>{escape(tile.words)}</figcaption>"
    return f'<figure{kind}><img alt="{escape(tile.title)}" src="{_data(tile.thumbnail)}">{said}</figure>'


def _data(image: bytes) -> str:
    return f"data:{thumbnail_type(image)};base64,{base64.b64encode(image).decode()}"
