"""Writes a figure as an SVG file, and turns it into an element of an HTML page, which can change its colours."""

import io
import re
from xml.etree import ElementTree

from matplotlib.figure import Figure

from evaluation.report.style import TOKENS

_SVG = "{http://www.w3.org/2000/svg}"
_PX_PER_INCH = 96


def svg_file(figure: Figure) -> bytes:
    """Returns the SVG file of a figure, with the same bytes for the same data."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def inline_svg(svg: bytes, name: str, title: str = "", description: str = "") -> str:
    """Turns an SVG file of matplotlib into an element for an HTML page.

    Namespaces, metadata and the global style are removed. Ids get the prefix `name`, so that a page can hold several
    figures. Colours of the palette become CSS variables with the colour as fallback.

    Args:
        svg: content of the file.
        name: prefix of the ids.
        title, description: text for screen readers. Without a title they skip the element.
    """
    root = ElementTree.fromstring(svg)
    _drop(root, {f"{_SVG}metadata", f"{_SVG}style"})
    referenced = set(re.findall(r"#([\w.-]+)", svg.decode()))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = dict(_attribute(key, value, name) for key, value in element.attrib.items())
        if element.get("id") and element.get("id") not in referenced:
            del element.attrib["id"]
        elif element.get("id"):
            element.set("id", f"{name}-{element.get('id')}")
    width, height = (float(root.get(side, "0").removesuffix("pt")) / 72 * _PX_PER_INCH for side in ("width", "height"))
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        # The page scales a figure by these, so that its text stays readable and no larger than the text around it.
        "style": f"--width: {width:.0f}px; --height: {height:.0f}px",
    }
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"} if title else {"aria-hidden": "true"}
    for tag, text in (("desc", description), ("title", title)) if title else ():
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(0, element)
    return ElementTree.tostring(root, encoding="unicode")


def _drop(element: ElementTree.Element, tags: set[str]) -> None:
    for child in list(element):
        if child.tag in tags:
            element.remove(child)
        else:
            _drop(child, tags)


def _attribute(key: str, value: str, name: str) -> tuple[str, str]:
    key = key.rsplit("}", 1)[-1]
    if key == "href":
        return key, value.replace("#", f"#{name}-", 1)
    value = value.replace("url(#", f"url(#{name}-")
    return key, re.sub(r"#[0-9a-f]{6}\b", lambda match: _variable(match.group()), value)


def _variable(color: str) -> str:
    return f"var(--{TOKENS[color]}, {color})" if color in TOKENS else color
