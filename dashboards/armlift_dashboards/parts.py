"""What pages are put together from: sections of markup, and the states a page can be in."""

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from armlift.rendering.markup import Markup, join, tag
from armlift.store.database import hidden
from armlift_dashboards import who

_SCRIPT = """
export default ({ data, parentElement }) => { parentElement.querySelector(".section").innerHTML = data.html }
"""


@cache
def _styles() -> str:
    own = files("armlift_dashboards") / "pages.css"
    report = files("armlift.rendering") / "report.css"
    return report.read_text(encoding="utf-8") + own.read_text(encoding="utf-8")


def section(*parts: Markup, key: str) -> None:
    """Show markup with the report's styles, which neither reach the rest of the page nor come from it."""
    # Streamlit forgets components with its runtime, so each run names this one.
    component = st.components.v2.component(
        "armlift_section", html='<div class="section"></div>', css=_styles(), js=_SCRIPT
    )
    component(data={"html": join(*parts)}, key=key)


def empty(text: str, command: str | None = None) -> None:
    """Say that there is nothing to show yet, and what makes it."""
    st.info(text, icon=":material/inbox:")
    if command is not None:
        st.code(command, language="shell")


def failed(text: str) -> None:
    """Say in a line what went wrong, and where."""
    st.error(text, icon=":material/error:")


def reason(error: BaseException) -> str:
    """Give what an error says in one line, without passwords; of the database's the driver's own words."""
    said = hidden(" ".join(str(getattr(error, "orig", None) or error).split()))
    return said[:300] or type(error).__name__


def stale(text: str) -> None:
    """Say that what is shown is older than it should be."""
    st.warning(text, icon=":material/schedule:")


def forbidden(text: str) -> None:
    """Say that whoever is signed in may not see something."""
    st.warning(text, icon=":material/lock:")


def may_see_details() -> bool:
    """Tell whether whoever looks may see logs, and what single units were shown and did."""
    person = who.current()
    return person is not None and person.role == "owner"


def zone() -> ZoneInfo:
    """Give the viewer's time zone, UTC where the browser does not tell."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def moment(ts: int) -> str:
    """Write a time (UTC milliseconds) in the viewer's zone, to the minute, with the zone's name."""
    local = datetime.fromtimestamp(ts / 1000, UTC).astimezone(zone())
    return f"{local:%d %b %Y, %H:%M} {local.tzname()}"


def ago(ts: int, now: int) -> str:
    """Say how long before `now` (both UTC milliseconds) something was."""
    seconds = max(0, now - ts) // 1000
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def counted(number: int, one: str) -> str:
    """Write how many there are of something, whose plural ends in s."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def badge(symbol: str, text: str, kind: str) -> Markup:
    """Write a badge, told by symbol and words as well as by its colour; `kind` is a class of the styles."""
    return tag("span", tag("span", f"{symbol} ", aria_hidden="true"), text, class_=f"badge {kind}".strip())
