"""matplotlib's SVG made part of the page: text stays text in the page's font, and colors follow its theme.

A color of SHOWN stands for the page's own (a CSS variable), so a dark page and a printed one have theirs. Style
attributes, which the page's security policy forbids, become attributes of their own; every id gets the plot's name.
"""

import re
from io import StringIO
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.figure import Figure

INK, ACCENT, MUTED, LINE, SOFT = "#010203", "#020304", "#030405", "#040506", "#050607"
SHOWN = {
    INK: "currentColor",
    ACCENT: "var(--accent)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    SOFT: "var(--soft)",
}
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
KEPT = re.compile(
    r"(fill|stroke|opacity|font-size|font-weight|text-anchor|clip)"
)  # properties that mean something here
REFERENCE = re.compile(r"#([\w-]+)")


def inline(figure: Figure, name: str, said: str) -> Markup:
    """The figure as an <svg> element; `name` is unique on the page, `said` what it shows, for who cannot see it."""
    written = StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(written.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(f"{{{SVG}}}") in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        _restyle(element)
    _rename(root, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"role": "img", "aria-label": said}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _restyle(element: ElementTree.Element) -> None:
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font" and (size := re.search(r"[\d.]+px", value)):
            name, value = "font-size", size[0]
        if value and KEPT.match(name):
            element.set(name, SHOWN.get(value, value))


def _rename(root: ElementTree.Element, name: str) -> None:
    """Keep only the ids that something refers to, and make them the plot's own."""
    referred = {
        found for element in root.iter() for value in element.attrib.values() for found in REFERENCE.findall(value)
    }
    for element in root.iter():
        if element.get("id") not in referred:
            element.attrib.pop("id", None)
        for key, value in list(element.attrib.items()):
            if key == f"{{{XLINK}}}href":
                del element.attrib[key]
                element.set("href", value.replace("#", f"#{name}-"))
            elif key == "id":
                element.set(key, f"{name}-{value}")
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{name}-"))
