"""The app: who looks at it, its pages, and what is shown where there is nothing to show."""

from collections.abc import Callable

import streamlit as st

from armlift.errors import ArmliftError
from armlift.rendering.html import banner
from armlift.store.database import DATABASE_ERRORS
from armlift_dashboards import parts, sign_in
from armlift_dashboards.source import Source, open_source
from armlift_dashboards.stored import address, all_runs
from armlift_dashboards.views import arms, experiments, pipelines, planner, results, traffic

PAGES: tuple[tuple[str, str, str, Callable[[Source], None]], ...] = (
    ("Experiments", "", ":material/science:", experiments.show),
    ("Results", "results", ":material/query_stats:", results.show),
    ("Arms", "arms", ":material/model_training:", arms.show),
    ("Pipelines", "pipelines", ":material/account_tree:", pipelines.show),
    ("Traffic", "traffic", ":material/traffic:", traffic.show),
    ("Planner", "planner", ":material/calculate:", planner.show),
)
"""Title, address, icon, and what shows each page."""
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path d="M1 4h10M5 12h10" stroke="#0072b2" '
    'stroke-width="2"/><circle cx="6" cy="4" r="2.5" fill="#0072b2"/><circle cx="10" cy="12" r="2.5" '
    'fill="#0072b2"/></svg>'
)
"""Two intervals with their points; Streamlit would fetch an icon of its own from the network."""


def main() -> None:
    """Show the page that is asked for."""
    pages = [
        st.Page(_page(title, show), title=title, url_path=path, icon=icon, default=not path)
        for title, path, icon, show in PAGES
    ]
    st.set_page_config(page_title="armlift", page_icon=ICON, layout="wide")
    try:
        admitted = sign_in.admit()
    except ArmliftError as error:
        parts.failed(str(error))
        admitted = False
    page = st.navigation(pages, position="top" if admitted else "hidden")
    if admitted:
        page.run()


def _page(title: str, show: Callable[[Source], None]) -> Callable[[], None]:
    def page() -> None:
        st.title(title, anchor=False)
        render(show)

    page.__name__ = title.lower()
    return page


def render(show: Callable[[Source], None]) -> None:
    """Show a page of the lab, or in its place what keeps it from being shown."""
    try:
        source = open_source()
        if source.engine is None:
            parts.empty(f"The lab {source.lab.folder.name} has no database yet.", "armlift demo")
            return
        if show is not results.show and _all_synthetic(source):
            parts.section(banner(), key="synthetic")
        show(source)
    except ArmliftError as error:
        parts.failed(str(error))
    except DATABASE_ERRORS as error:
        parts.failed(f"The database does not answer: {parts.reason(error)}")


def _all_synthetic(source: Source) -> bool:
    """Tell whether nobody real is in the lab; the page Results says it of each run by itself."""
    runs = all_runs(source.known, address(source.known))
    return bool(runs) and all(run.synthetic for run in runs)
