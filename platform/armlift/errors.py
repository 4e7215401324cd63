"""The errors of armlift.

    ArmliftError            anything armlift raises on purpose
    ├── InputError          what the caller gave is wrong: one line, exit code 2
    ├── OthersError         another process of the same work has failed
    ├── StreamError         the event stream cannot do what was asked
    └── StoreError          the database cannot do what was asked

An error's text is one line that names what is wrong, its value, what is allowed, and where it stands.
"""


class ArmliftError(Exception):
    """Base of every error that armlift raises on purpose."""


class InputError(ArmliftError):
    """What the caller gave is wrong; the command line prints the one line and exits with 2."""


class OthersError(ArmliftError):
    """Another process of the same work has failed, or cannot be reached."""


class StreamError(ArmliftError):
    """The event stream cannot do what was asked."""


class StoreError(ArmliftError):
    """The database cannot do what was asked."""
