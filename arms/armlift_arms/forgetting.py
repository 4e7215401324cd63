"""What fine-tuning does to what pre-training taught: the decoder's own loss before and after."""

from collections.abc import Mapping, Sequence

import numpy as np

from armlift.arm import Arm, Slate
from armlift.evaluation import Floats
from armlift.heldout import Asked, HeldOut
from armlift_arms.decoder import Decoder
from armlift_arms.next_item import next_item_losses
from armlift_arms.recgpt import RecGpt
from armlift_arms.stages import pretrained

BEFORE, AFTER, FORGOTTEN = "loss before", "loss after", "forgotten"


class Forgetting:
    """Measures -log softmax, in nats, over the whole catalogue, of the item each unit takes next.

    It is that of the decoder alone, without prompts and without vectors of units and segments: what
    pre-training learns, and fine-tuning goes on with. `loss before` is that of the pre-trained decoder, which
    is trained again for it (equal definition, data and seed give equal weights), `loss after` that of the
    fine-tuned one, and `forgotten` the difference, above 0 where fine-tuning has made the decoder worse at
    this. Without pre-training there is `loss after` alone.
    """

    def __init__(self, arm: Arm, data: HeldOut, first: Arm) -> None:
        assert isinstance(arm, RecGpt)
        self._arm = arm
        self._decoders: dict[str, Decoder] = {}
        if arm._trained:
            self._decoders[AFTER] = arm._model.decoder
            if arm.config.pretraining_epochs:
                known = arm._known(data.histories(), data.items, data.until)
                self._decoders[BEFORE] = pretrained(arm.config, known).decoder
        self._index_of = {item: row for row, item in enumerate(data.items.ids)}
        self._losses: dict[str, list[float]] = {name: [] for name in self._decoders}

    def see(self, asked: Sequence[Asked], slates: Sequence[Slate]) -> None:
        """Compute the losses of a batch; a unit without history or with an unknown target has none."""
        prefixes = [self._arm._asked(one.request).sequence for one in asked]
        targets = [self._index_of.get(one.target, -1) for one in asked]
        usable = [at for at, target in enumerate(targets) if target >= 0 and len(prefixes[at])]
        for name, decoder in self._decoders.items():
            losses = np.full(len(asked), np.nan)
            if usable:
                chosen = np.array([targets[at] for at in usable])
                losses[usable] = next_item_losses(decoder, [prefixes[at] for at in usable], chosen)
            self._losses[name] += losses.tolist()

    def outcome(self) -> tuple[Mapping[str, Floats], Mapping[str, float]]:
        """Give the losses."""
        found = {name: np.array(losses) for name, losses in self._losses.items()}
        if BEFORE in found:
            found[FORGOTTEN] = found[AFTER] - found[BEFORE]
        return found, {}
