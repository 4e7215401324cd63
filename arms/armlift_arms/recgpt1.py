"""RecGPT1: RecGPT's model, recalled in one step; what its further steps are measured against."""

from typing import TYPE_CHECKING

from armlift_arms.recgpt import RecGpt

if TYPE_CHECKING:
    from armlift_arms.recall import Plan


class RecGpt1(RecGpt):
    """Answer with the first recall step alone; equal definitions and data give the weights of `recgpt`."""

    @property
    def plan(self) -> "Plan":
        """Say how requests are answered: as the definition says, in one step."""
        return self.config.plan._replace(recall=(1,))
