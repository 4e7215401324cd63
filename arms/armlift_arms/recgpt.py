"""RecGPT: recommendation as a conversation, with the model's own replies as prompts (arXiv 2404.08675)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from armlift.arm import ArmConfig, Capability, Request, Slate
from armlift.artefacts import Tensors
from armlift.fitting import record_figures
from armlift.slates import Ranking
from armlift_arms.neural import Known, NeuralArm, Warm, load_weights, start_from, weights_of
from armlift_arms.sasrec import DecoderConfig
from armlift_arms.windows import Longs

if TYPE_CHECKING:
    from armlift_arms.conversation import Conversation
    from armlift_arms.recall import Plan, Replies


class RecGptConfig(DecoderConfig):
    """The arm definition of `recgpt`."""

    recall: tuple[int, ...] = Field(
        default=(18, 2),
        min_length=1,
        max_length=20,
        description="Shares of the recall steps; for a slate of k they are scaled to sum to k.",
    )
    prompts: int = Field(default=1, ge=0, le=50, description="K, how many prompts answer a behaviour.")
    prompt_placement: Literal["tail", "every"] = Field(
        default="tail", description="Prompts are in view after the last behaviour alone, or after every one."
    )
    prompt_turns: int = Field(
        default=5, ge=1, description="With `every`: of how many last behaviours prompts are in view."
    )
