"""Where pages read from: the lab and its database, which they cannot write to."""

from dataclasses import dataclass

import streamlit as st
from sqlalchemy import Engine

from armlift.lab import Lab, find_lab
from armlift.store.database import open_existing

FRESH = 10.0
"""Seconds after which the lab's files, and whatever moves in the database, are read anew."""


@dataclass(frozen=True)
class Source:
    """A lab, and its database opened to be read; `engine` is None where there is no database yet."""

    lab: Lab
    engine: Engine | None

    @property
    def known(self) -> Engine:
        """Give the database of pages that are shown only where there is one."""
        assert self.engine is not None
        return self.engine


@st.cache_resource(ttl=FRESH, show_spinner=False)
def open_lab() -> Lab:
    """Open the lab that the environment names, else the nearest one; raises InputError where it cannot."""
    return Lab(find_lab(None))


@st.cache_resource(ttl=FRESH, show_spinner=False)
def open_source() -> Source:
    """Open the lab and its database; raises InputError where it cannot."""
    lab = Lab(find_lab(None))
    return Source(lab, _engine(lab))


def _engine(lab: Lab) -> Engine | None:
    """Open a lab's database once; one that is not there yet is looked for again."""
    key = (str(lab.folder), lab.settings.database_url)
    if key not in _ENGINES:
        engine = open_existing(lab, read_only=True)
        if engine is None:
            return None
        _ENGINES[key] = engine
    return _ENGINES[key]


_ENGINES: dict[tuple[str, str], Engine] = {}
