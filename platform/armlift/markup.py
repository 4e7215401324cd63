"""HTML and SVG elements as text, escaped by construction: what is not `Markup` is text."""

from html import escape

VOID = frozenset({"br", "meta"})
"""Elements that hold nothing and are not closed."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """Write an element; children that are not `Markup` and all attribute values are escaped.

    In attribute names `_` stands for `-` and a trailing `_` is left out (`class_`, `aria_label`); an attribute
    of None is left out; numbers keep six significant digits.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value if isinstance(value, str) else f"{value:g}")}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Put elements and text behind one another; text is escaped."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))
