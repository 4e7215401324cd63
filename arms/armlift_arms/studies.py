"""The questions the RecGPT paper leaves open, as studies of the arms here (arXiv 2404.08675)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from armlift.arm import ArmConfig
from armlift.findings import Row, default_answer
from armlift.heldout import Asked
from armlift.studies import Setting, Source, Study
from armlift_arms.recgpt import RecGptConfig

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
        "ablation": _ablation(),
        "decoding": _decoding(),
        **neural(config),
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
        Setting("with", train={"pretraining_epochs": epochs}),
        Setting("without", train={"pretraining_epochs": 0}, base="with"),
    ]
    return Study("What is pre-training worth, and does fine-tuning forget it?", lambda source: settings)


def _ablation() -> Study:
    parts: dict[str, dict[str, object]] = {
        "no segments": {"segments": False},
        "no user vectors": {"user_vectors": False},
        "no positions": {"positions": False},
        "no prompts": {"prompts": 0},
    }
    parts["none of them"] = {key: value for changes in parts.values() for key, value in changes.items()}
    settings = [
        Setting("all parts"),
        *(Setting(name, train=changes, base="all parts") for name, changes in parts.items()),
    ]
    return Study("What does each part add, on the same backbone?", lambda source: settings)


def _decoding() -> Study:
    settings = [
        Setting(
            decoding,
            train={"prompts": _SEVERAL, "decoding": decoding},
            base=None if decoding == "autoregressive" else "autoregressive",
        )
        for decoding in ("autoregressive", "parallel")
    ]
    return Study(
        f"Should prompts be told one after another or in one pass, at K = {_SEVERAL}?",
        lambda source: settings,
        notes=("Each way has its own training: in one pass each prompt has a head of its own.",),
    )


def _length(config: ArmConfig) -> Study:
    return Study(
        f"How long a history does {config.name} need to be better than popularity?",
        partial(_lengths, config),
        answer=_shortest,
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


def _shortest(metric: str, rows: Sequence[Row], best: str | None, stops: str | None) -> str:
    """Say from which length on the arm's interval lies above popularity's."""
    values = {row.setting: row.values[metric] for row in rows if metric in row.values}
    pairs = [(row.setting, row.base) for row in rows if row.base is not None]
    known = [(own, base) for own, base in pairs if own in values and base in values]
    if not known:
        reasons = [row.reason for row in rows if row.reason]
        return f"No data: {reasons[0] if reasons else 'no unit has such a history'}."
    units = rows[0].units
    for own, base in known:
        if values[own].low > values[base].high:
            return (
                f"From {own.split(':')[0]} behaviours on its {metric} interval lies above popularity's: "
                f"{_interval(values[own])} against {_interval(values[base])}, {units:,} units."
            )
    return f"At no length does its {metric} interval lie above popularity's ({units:,} units)."


def _interval(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.4f} [{found[1]:.4f}, {found[2]:.4f}]"


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
        answer=_by_kind,
        notes=("For each kind it alone makes the histories, and it alone is asked for.",),
    )


def _by_kind(metric: str, rows: Sequence[Row], best: str | None, stops: str | None) -> str:
    """Say for each kind which arm is best and which are worse beyond chance."""
    said, lacking = [], []
    for kind in KINDS:
        of_kind = [row for row in rows if row.setting.startswith(f"{kind}: ")]
        known = [row for row in of_kind if metric in row.values]
        if not known:
            lacking.append(kind)
            continue
        top = max(known, key=lambda row: row.values[metric].value).setting
        said.append(default_answer(metric, of_kind, top, None).rstrip("."))
    if lacking:
        said.append(f"no data of {', '.join(lacking)}")
    return "; ".join(said) + "."
