"""The questions the RecGPT paper leaves open, as studies of the arms here (arXiv 2404.08675)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from armlift.arm import Arm, ArmConfig
from armlift.heldout import Asked, HeldOut
from armlift.studies import Observer, Outcome, Setting, Source, Study
from armlift_arms.recgpt import RecGptConfig
from armlift_arms.study_answers import by_kind, costs, forgotten, of_prompts, shortest, timed

PROMPTS = (0, 1, 2, 3, 5, 10, 20)
PLANS = ((20,), (18, 2), (15, 5), (10, 10), (7, 7, 6), (5, 5, 5, 5))
LENGTHS = (5, 10, 20, 50)
KINDS = ("click", "like", "long_view", "purchase", "rating")
PEERS = ("recgpt", "recgpt1", "sasrec", "comirec")
ENOUGH = 50
"""Units that `length` wants of a history: with fewer, shorter histories are looked at."""
_SEVERAL = 3  # prompts where one would not show what is asked
_PRETRAINING = RecGptConfig.model_fields["pretraining_epochs"].default


def recgpt(config: ArmConfig) -> Mapping[str, Study]:
    """Give the studies of an arm of RecGPT's model."""
    assert isinstance(config, RecGptConfig)
    found = {
        "k": _k(),
        "recall": _recall(),
        "pretrain": _pretrain(config),
        "ablation": _ablation(config),
        "prompts": _prompts(),
        "decoding": _decoding(),
        **neural(config),
        "cost": _cost(),
    }
    if config.model == "recgpt1":
        del found["recall"]  # it recalls in one step whatever the definition says
    return found


def neural(config: ArmConfig) -> Mapping[str, Study]:
    """Give the studies that any arm trained on sequences answers."""
    return {"length": _length(config), "feedback": _feedback(config)}


def _k() -> Study:
    settings = [
        Setting(f"K = {number}", train={"prompts": number}, base="K = 0" if number else None)
        for number in PROMPTS
    ]
    return Study(
        "How many prompts K should answer a behaviour, for all units and for groups of them?",
        lambda source: settings,
        ordered=True,
        grouped=True,
        notes=("The model is trained anew for each K.",),
    )


def _recall() -> Study:
    base = _written(PLANS[0])
    settings = [
        Setting(_written(plan), serve={"recall": plan}, base=None if plan == PLANS[0] else base)
        for plan in PLANS
    ]
    return Study(
        "Is recall in one step, two, or more the best?",
        lambda source: settings,
        metric="HR@20",
        ordered=True,
        notes=(
            "All plans are served from the same weights, trained with the recall of the arm's definition.",
            "More steps come later in the table; in [18, 2], [15, 5], [10, 10] the second grows.",
        ),
    )


def _written(plan: Sequence[int]) -> str:
    return f"[{', '.join(map(str, plan))}]"


def _pretrain(config: RecGptConfig) -> Study:
    epochs = config.pretraining_epochs or _PRETRAINING
    settings = [
        Setting("with", train={"pretraining_epochs": epochs}, observe=_forgetting),
        Setting("without", train={"pretraining_epochs": 0}, base="with", observe=_forgetting),
    ]
    return Study(
        "What is pre-training worth, and does fine-tuning forget it?",
        lambda source: settings,
        answer=forgotten,
        notes=(
            "Losses are those of the decoder alone, on the held-out items, whole catalogue, in nats: before "
            "and after fine-tuning.",
        ),
    )


def _forgetting(arm: Arm, data: HeldOut, first: Arm) -> Observer:
    from armlift_arms.forgetting import Forgetting

    return Forgetting(arm, data, first)


def _ablation(config: RecGptConfig) -> Study:
    # Whatever the definition leaves out is put in first, so that each part has something to be missed from.
    on = {"segments": True, "user_vectors": True, "positions": True, "prompts": max(1, config.prompts)}
    off: dict[str, dict[str, object]] = {
        "no segments": {"segments": False},
        "no user vectors": {"user_vectors": False},
        "no positions": {"positions": False},
        "no prompts": {"prompts": 0},
    }
    off["none of them"] = {key: value for changes in off.values() for key, value in changes.items()}
    settings = [
        Setting("all parts", train=on),
        *(Setting(name, train={**on, **changes}, base="all parts") for name, changes in off.items()),
    ]
    return Study(
        "What does each part add, on the same backbone?",
        lambda source: settings,
        notes=("All parts: those the arm's definition leaves out too.",),
    )


def _prompts() -> Study:
    settings = [Setting("generated", train={"prompts": _SEVERAL}, observe=_quality)]
    for source in ("unclicked", "random", "popular"):
        changes = {"prompts": _SEVERAL, "prompt_source": source}
        lacks = source == "unclicked"  # a sequence file tells what was taken alone
        settings.append(Setting(source, changes, base="generated", may_lack=lacks, observe=_quality))
    for number in PROMPTS:
        if number not in (0, _SEVERAL):
            name = f"generated, K = {number}"
            settings.append(Setting(name, {"prompts": number}, base="generated", observe=_quality))
    return Study(
        f"Are generated prompts better than others, K = {_SEVERAL}, and are they overfitted as K grows?",
        lambda source: settings,
        figures=_hits,
        answer=of_prompts(_SEVERAL),
        notes=(
            "taken: share of units whose next item is a prompt; diversity: 1 - cosine of two prompts; near "
            "the next: cosine of prompts and next item; interests: share of the clusters of its history "
            "they lie in; distinct: different items among all prompts.",
            "hits: how often a prompt is what comes next, in training and in validation; the gap between "
            "them is overfitting.",
        ),
    )


def _quality(arm: Arm, data: HeldOut, first: Arm) -> Observer:
    from armlift_arms.prompt_quality import PromptQuality

    return PromptQuality(arm, data, first)


def _hits(manifest: Mapping[str, float]) -> Mapping[str, float]:
    """Take how often prompts hit what comes next, and the gap between training and validation."""
    names = ("prompt_hits_train", "prompt_hits_validation")
    if not all(name in manifest for name in names):
        return {}
    train, validation = (manifest[name] for name in names)
    return {"hits, training": train, "hits, validation": validation, "gap": train - validation}


def _decoding() -> Study:
    settings = [
        Setting(
            decoding,
            train={"prompts": _SEVERAL, "decoding": decoding},
            base=None if decoding == "autoregressive" else "autoregressive",
            observe=_timing,
        )
        for decoding in ("autoregressive", "parallel")
    ]
    return Study(
        f"Should prompts be told one after another or in one pass, at K = {_SEVERAL}?",
        lambda source: settings,
        answer=timed,
        notes=("Each way has its own training: in one pass each prompt has a head of its own.",),
    )


def _timing(arm: Arm, data: HeldOut, first: Arm) -> Observer:
    from armlift_arms.costs import Timing

    return Timing(arm, data, first)


def _cost() -> Study:
    settings = [Setting(f"K = {number}", train={"prompts": number}, measure=_measure) for number in PROMPTS]
    return Study(
        "What do prompts cost: time to answer, time of a training step, memory?",
        lambda source: settings,
        metric="ms a user",
        lower_is_better=True,
        answer=costs,
        notes=(
            "Each K is trained for one epoch a stage on at most 2,000 units and answers at most 512; what a "
            "step or an answer costs does not depend on how well it is trained.",
            "Peaks are those of the whole process.",
        ),
    )


def _measure(config: ArmConfig, data: HeldOut) -> Outcome:
    from armlift_arms.costs import measure

    return measure(config, data)


def _length(config: ArmConfig) -> Study:
    return Study(
        f"How long a history does {config.name} need to be better than popularity?",
        partial(_lengths, config),
        answer=shortest,
        notes=(
            "The same units, told with their last behaviours alone, as units that training did not know: the "
            "vector of a known one would tell of all its behaviours.",
        ),
    )


def _lengths(config: ArmConfig, source: Source) -> list[Setting]:
    """Choose the longest history that enough units have, and cut theirs to it and to shorter ones."""
    kinds = config.history_kinds
    data = source.data(kinds)
    assert data is not None
    told = [sum(one.kind in kinds for one in request.history) for request, _ in data.asked()]
    reached = [length for length in LENGTHS if sum(n >= length for n in told) >= ENOUGH]
    longest = max(reached, default=LENGTHS[0])
    settings = []
    for length in LENGTHS[: LENGTHS.index(longest) + 1]:
        view = partial(_recent, length, longest, kinds)
        settings.append(Setting(f"last {length}: popularity", arm="popularity", view=view))
        own = f"last {length}: {config.name}"
        settings.append(Setting(own, base=f"last {length}: popularity", view=view))
    return settings


def _recent(length: int, least: int, kinds: Sequence[str], asked: Iterator[Asked]) -> Iterator[Asked]:
    """Keep the units with `least` behaviours of some kinds, told with the last ones, as unknown ones."""
    for request, target in asked:
        history = [behaviour for behaviour in request.history if behaviour.kind in kinds]
        if len(history) >= least:
            unknown = f"{request.unit} (unknown)"
            yield Asked(request._replace(unit=unknown, history=history[-length:]), target)


def _feedback(config: ArmConfig) -> Study:
    peers = [name for name in PEERS if name != config.name]
    settings = []
    for kind in KINDS:
        own = f"{kind}: {config.name}"
        settings.append(Setting(own, kind=kind))
        settings += [Setting(f"{kind}: {peer}", arm=peer, kind=kind, base=own) for peer in peers]
    return Study(
        "How do the arms compare by kind of feedback?",
        lambda source: settings,
        answer=by_kind(KINDS),
        notes=("For each kind it alone makes the histories, and it alone is asked for.",),
    )
