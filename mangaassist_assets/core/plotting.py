"""What all plots share: PNG bytes of a matplotlib figure, and fonts for names in any script."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_JAPANESE_FONTS = ("Noto Sans CJK JP", "IPAexGothic", "Hiragino Sans", "Yu Gothic")


def png(figure: Figure) -> bytes:
    """Return a matplotlib figure as PNG bytes that do not name the library's version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def name_fonts() -> list[str]:
    """Return the font families for names that shoppers' words made; later ones have the letters earlier ones lack."""
    from matplotlib.font_manager import fontManager

    there = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in _JAPANESE_FONTS if name in there)]
