"""The page Arms: versions of arms, offline figures, slates of a unit, people's ratings of prompts."""

from collections.abc import Callable

import streamlit as st

from armlift_dashboards.source import Source
from armlift_dashboards.views import arms_figures, arms_ratings, arms_slates, arms_versions

TABS: dict[str, Callable[[Source], None]] = {
    "Versions": arms_versions.show,
    "Figures": arms_figures.show,
    "Slates": arms_slates.show,
    "Ratings": arms_ratings.show,
}


def show(source: Source) -> None:
    """Show the tab that is open; the others are not computed."""
    tabs = st.tabs(list(TABS), key="show", on_change="rerun", bind="query-params")
    for tab, show_tab in zip(tabs, TABS.values(), strict=True):
        if tab.open:
            with tab:
                show_tab(source)
