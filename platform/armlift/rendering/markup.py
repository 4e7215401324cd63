"""HTML and SVG elements as text, escaped by construction: what is not `Markup` is text."""

from html import escape

VOID = frozenset({"br", "meta"})
"""Elements that hold nothing and are not closed."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Write an element; children that are not `Markup` and all attribute values are escaped.

    In attribute names `_` stands for `-` and a trailing `_` is left out (`class_`, `aria_label`); attributes
    of None are left out; numbers keep six significant digits.
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


def titled(title: str, *parts: str, name: str, class_: str | None = None) -> Markup:
    """Write a section with its heading (level 2); `name` is the heading's id."""
    return tag("section", tag("h2", title, id=name), *parts, class_=class_, aria_labelledby=name)


def scrolling(caption: str, *parts: Markup, class_: str | None = None) -> Markup:
    """Write a table in a box of its own, which scrolls where the screen is narrow."""
    table = tag("table", tag("caption", tag("div", caption, class_="pinned")), *parts, class_=class_)
    return tag("div", table, class_="scroll", role="region", aria_label=caption, tabindex="0")


def heads(*names: str, numbers: frozenset[str] = frozenset()) -> Markup:
    """Write a table's head; columns in `numbers` stand to the right."""
    cells = (tag("th", name, scope="col", class_="number" if name in numbers else None) for name in names)
    return tag("thead", tag("tr", *cells))


def numbers(*texts: str) -> Markup:
    """Write table cells that hold numbers."""
    return join(*(tag("td", text, class_="number") for text in texts))
