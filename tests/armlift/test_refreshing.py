"""What is read anew: at once, again and again, and no more after the end."""

import time
from contextlib import suppress

from armlift.refreshing import Refreshing


class Clock(Refreshing):
    """Counts how often it is read."""

    def __init__(self) -> None:
        super().__init__("clock", 0.01)
        self.reads = 0

    def refresh(self) -> None:
        self.reads += 1


def test_it_is_read_between_start_and_stop() -> None:
    clock = Clock()
    with suppress(KeyError), clock:
        assert clock.reads >= 1, "it is read at once"
        clock.start()
        end = time.monotonic() + 10
        while clock.reads < 5 and time.monotonic() < end:
            time.sleep(0.005)
        assert clock.reads >= 5
        raise KeyError
    after = clock.reads
    time.sleep(0.05)
    assert clock.reads == after
    clock.stop()
    with clock:
        assert clock.reads > after, "it can be started again"
