"""The page Arms: versions of arms, offline figures, slates of a unit, people's ratings of prompts."""

from collections.abc import Callable

import streamlit as st

from armlift_dashboards import parts
from armlift_dashboards.source import Source
from armlift_dashboards.views import arms_figures, arms_ratings, arms_slates, arms_versions

TABS: dict[str, Callable[[Source], None]] = {
    "Versions": arms_versions.show,
    "Figures": arms_figures.show,
    "Slates": arms_slates.show,
    "Ratings": arms_ratings.show,
}

OF_SINGLE_UNITS = frozenset({"Slates", "Ratings"})
"""Tabs that show what single units were shown and did."""


def show(source: Source) -> None:
    """Show the tab that is open; the others are not computed."""
    tabs = st.tabs(list(TABS), key="show", on_change="rerun", bind="query-params")
    for tab, (name, show_tab) in zip(tabs, TABS.items(), strict=True):
        if tab.open:
            with tab:
                if name in OF_SINGLE_UNITS and not parts.may_see_details():
                    parts.forbidden("What single units were shown and did is shown to owners alone.")
                    continue
                show_tab(source)
