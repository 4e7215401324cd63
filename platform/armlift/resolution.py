"""How finely a replay can tell arms apart: on how many requests their slates differ at all."""

from collections.abc import Iterable, Mapping, Sequence

from armlift.arm import Slate

ALL_BELOW = 2_048
"""So many requests are compared without exception; later ones by `EVERY`."""
EVERY = 16


class SlateComparison:
    """Counts the requests on which each challenger's slate holds other items than the control's.

    Only which items a slate holds counts, not their order: a replay counts the outcomes of these items.
    """

    def __init__(self, control: str, arms: Iterable[str]) -> None:
        self._control = control
        self._arms = [arm for arm in arms if arm != control]
        self.compared = 0
        self.differing = dict.fromkeys(self._arms, 0)
        self.any_differing = 0

    @staticmethod
    def takes(number: int) -> bool:
        """Tell whether the request of this number (from 0) is compared: every one first, then every 16th."""
        return number < ALL_BELOW or number % EVERY == 0

    def add(self, slates: Mapping[str, Sequence[Slate]]) -> None:
        """Compare slates of the same requests, by arm."""
        for index, slate in enumerate(slates[self._control]):
            held = set(slate.items)
            self.compared += 1
            some = False
            for arm in self._arms:
                if set(slates[arm][index].items) != held:
                    self.differing[arm] += 1
                    some = True
            self.any_differing += some

    def result(self) -> dict[str, object]:
        """Give the counts as plain data."""
        return {
            "compared": self.compared,
            "differing": self.any_differing,
            "differing_by_arm": dict(self.differing),
        }
