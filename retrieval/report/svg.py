"""SVG inside of a page: no styles of its own, which the page's policy forbids, and its colours."""

from __future__ import annotations

import html
import re

PAGE_COLOURS = {  # of figures -> of pages, which have others in the dark
    "#222222": "currentColor",
    "#000000": "currentColor",
    "#767676": "var(--soft)",
    "#e8e8e8": "var(--line)",
}
TEXT_COLOURS = {"#009e73": "var(--right)", "#d55e00": "var(--wrong)"}  # 4.5:1 on a page
_TAG = re.compile(r"<[A-Za-z][^<>]*>")
_STYLE = re.compile(r'\s+style="([^"]*)"')
_COLOUR = re.compile(rf'="({"|".join(PAGE_COLOURS)})"', re.IGNORECASE)
_FONT = re.compile(r"(?P<before>.*?)(?P<size>[\d.]+px) (?P<family>.+)")
# what an element has that does not say otherwise: the style that matplotlib writes, and black
_DRAWN = 'fill="currentColor" stroke-linejoin="round" stroke-linecap="butt"'


def embedded_svg(text: str, prefix: str) -> str:
    """Return matplotlib's <svg> for a page; prefix keeps its ids apart from other figures'."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>\s*", "", text, count=1, flags=re.DOTALL)
    text = _TAG.sub(lambda tag: _plain(tag[0], prefix), text)
    return text.replace("<svg", f"<svg {_DRAWN}", 1)


def _plain(tag: str, prefix: str) -> str:
    tag = _STYLE.sub(lambda style: _attributes(html.unescape(style[1])), tag)
    tag = _COLOUR.sub(lambda colour: f'="{PAGE_COLOURS[colour[1].lower()]}"', tag)
    if tag.startswith("<text"):
        tag = re.sub(r'="(#\w{6})"', lambda c: f'="{TEXT_COLOURS.get(c[1].lower(), c[1])}"', tag)
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", tag)


def _attributes(style: str) -> str:
    """Write a style as attributes; "font", which older matplotlib writes, is none of them."""
    found: dict[str, str] = {}
    for rule in style.split(";"):
        name, _, value = (part.strip() for part in rule.partition(":"))
        font = _FONT.fullmatch(value) if name == "font" else None
        if font:
            found |= {"font-size": font["size"], "font-family": font["family"]}
            if "bold" in font["before"]:
                found["font-weight"] = "bold"
        elif name:
            found[name] = value
    return "".join(f' {name}="{html.escape(value)}"' for name, value in found.items())
