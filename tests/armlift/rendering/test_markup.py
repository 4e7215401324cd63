from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled


class Reader(HTMLParser):
    """Gathers text and attribute values, as a browser would read them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.texts: list[str] = []
        self.values: dict[str, str | None] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.values.update(attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


# Browsers turn a carriage return into a line feed, and leave the character 0 out.
texts = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]))


@given(texts, texts)
def test_any_text_reads_back_as_it_was(text: str, value: str) -> None:
    read = Reader(tag("p", text, title=value))
    assert read.names == ["p"]
    assert "".join(read.texts) == text
    assert read.values == {"title": value}


def test_children_that_are_markup_are_kept() -> None:
    assert tag("p", tag("b", "1 < 2"), " & ", Markup("<i>3</i>")) == "<p><b>1 &lt; 2</b> &amp; <i>3</i></p>"
    assert join("<", tag("br")) == "&lt;<br>"


@pytest.mark.parametrize(
    ("attributes", "written"),
    [
        ({"class_": "a b"}, '<g class="a b"></g>'),
        ({"aria_label": 'say "so"'}, '<g aria-label="say &quot;so&quot;"></g>'),
        ({"id": None}, "<g></g>"),
        ({"x": 12.0, "y": 0.1 + 0.2}, '<g x="12" y="0.3"></g>'),
        ({"viewBox": "0 0 1 1"}, '<g viewBox="0 0 1 1"></g>'),
        ({"name": "n"}, '<g name="n"></g>'),
    ],
)
def test_attributes(attributes: dict[str, str | float | None], written: str) -> None:
    assert tag("g", **attributes) == written


def test_a_section_is_labelled_by_its_heading() -> None:
    assert titled("A < B", "text", name="ab") == (
        '<section aria-labelledby="ab"><h2 id="ab">A &lt; B</h2>text</section>'
    )


def test_a_table_scrolls_in_a_box_that_the_keyboard_reaches() -> None:
    head = heads("Arm", "Units", numbers=frozenset({"Units"}))
    read = Reader(scrolling("Units by arm", head, tag("tbody", tag("tr", numbers("1", "2")))))
    assert read.names[:4] == ["div", "table", "caption", "div"]
    assert read.names[4:] == ["thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert (read.values["tabindex"], read.values["role"]) == ("0", "region")
    assert read.values["aria-label"] == "Units by arm"
    assert read.texts == ["Units by arm", "Arm", "Units", "1", "2"]
