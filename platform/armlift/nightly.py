"""The definition of nights, `nightly.yaml`: when jobs run, what a new model must show, and who is told."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from armlift.arm import Name
from armlift.durations import Duration

FILE = "nightly.yaml"
ArmStep = Literal["retrain", "evaluate", "gate", "promote", "write_prompts"]
Step = Literal[
    "roll_up", "build_dataset", "retrain", "evaluate", "gate", "promote", "write_prompts",
    "drift", "snapshot", "archive", "retention",
]  # fmt: skip
AlertKind = Literal["failure", "stale_model", "srm", "dead_letters", "guardrail", "error_rate", "refused"]
ARM_STEPS: tuple[ArmStep, ...] = get_args(ArmStep)
"""What is done for each arm, in this order."""
ALERTS: tuple[AlertKind, ...] = get_args(AlertKind)
"""What somebody is told of."""
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Part):
    """When a job runs: five fields of cron, in a time zone."""

    cron: str = Field(description="Minute, hour, day of month, month, day of week, as in crontab.")
    timezone: str | None = Field(default=None, description="Default: the lab's.")


class StepSettings(_Part):
    """How long a step may take, how much memory it may use, and how often it is tried."""

    timeout: Duration = Field(default="2h", description="Longer, and it is ended.")
    megabytes: int | None = Field(
        default=None, ge=64, description="Memory it may use; null: as much as there is."
    )
    retries: int = Field(default=1, ge=0, le=20, description="How often it is tried again after a failure.")
    backoff: Duration = Field(
        default="30s", description="The wait before the first retry; each further one is twice as long."
    )


class ArmSettings(_Part):
    """What differs for one arm."""

    steps: tuple[ArmStep, ...] = Field(default=ARM_STEPS, description="What is done for it; [] is nothing.")
    warm: bool = Field(default=True, description="Whether training goes on from the promoted version.")


class DataSettings(_Part):
    """What models learn from, and what is held out of it."""

    engine: Literal["sql", "spark"] = Field(
        default="sql", description="What reads events: the database, or Spark from the archive."
    )
    holdout: Duration = Field(
        default="1d", description="The end of the data, on which models are compared; none learns from it."
    )
    window: Duration = Field(default="90d", description="How far back behaviours are read.")
    active: Duration = Field(
        default="30d", description="Units with a behaviour in this time get prompts written."
    )


class GateSettings(_Part):
    """What a new model must show before it serves."""

    metric: Literal["rerank_NDCG@10", "NDCG@10", "HR@10", "NDCG@20", "HR@20"] = Field(
        default="rerank_NDCG@10",
        description="By what it is compared with the promoted one, unit by unit: the order of what units "
        "were shown, or what is recalled from the whole catalogue.",
    )
    margin: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="The loss that must not pass: the interval of the lift must lie above minus this.",
    )
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="Two-sided, of that interval.")
    most_lost_recall: float = Field(
        default=0.6,
        gt=0,
        lt=1,
        description="The loss of NDCG@10 over the whole catalogue that is surely too much.",
    )
    minimum_units: int = Field(default=100, ge=2, description="Units that are asked for.")
    minimum_behaviours: int = Field(default=1_000, ge=1, description="Behaviours learned from.")
    most_megabytes: float = Field(default=2_000, gt=0, description="Size of the model file.")
    most_milliseconds: float = Field(
        default=100, gt=0, description="Time to answer one request, 95th percentile."
    )
    most_forgetting: float = Field(
        default=0.5,
        ge=0,
        description="Nats that fine-tuning may add to the loss that pre-training brought down.",
    )
    most_prompt_gap: Share = Field(
        default=0.2,
        description="How much more often prompts may be right on behaviours learned from than on new ones.",
    )
    short_history: int = Field(default=3, ge=1, description="Behaviours under which a history is short.")
    most_short_histories: Share = Field(default=0.9, description="Share of units whose history is short.")


class MonitorSettings(_Part):
    """The watch over running experiments."""

    schedule: Schedule = Schedule(cron="*/5 * * * *", timezone="UTC")
    action: Literal["pause", "ramp_down", "alert"] = Field(
        default="pause",
        description="Upon a breach: nobody meets the arms any more, or no new unit does, or it is told only.",
    )
    minimum_units: int = Field(
        default=100, ge=2, description="Units an arm needs before its guardrails and its split are judged."
    )
    srm_alpha: float = Field(default=0.001, gt=0, lt=0.5, description="Of the split's test at every look.")
    guardrail_alpha: float = Field(default=0.05, gt=0, lt=0.5, description="Of always-valid intervals.")
    error_rate: Share = Field(
        default=0.05, description="Share of an arm's impressions that may be fallbacks of another."
    )


class EmailSettings(_Part):
    """How e-mail is sent."""

    server: str = Field(pattern=r"^[A-Za-z0-9_.-]+:[0-9]{1,5}$", description="HOST:PORT of an SMTP server.")
    sender: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    to: tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")], ...] = Field(min_length=1)
    starttls: bool = False
    user: str = ""
    password: SecretStr = Field(
        default=SecretStr(""), description="Better in ARMLIFT_SMTP_PASSWORD than in a file."
    )


class AlertSettings(_Part):
    """Who is told of what."""

    on: tuple[AlertKind, ...] = Field(default=ALERTS, description="Of what; the others are stored only.")
    webhook: str | None = Field(
        default=None, pattern=r"^https?://", description="A URL that takes a JSON document by POST."
    )
    email: EmailSettings | None = None
    repeat: Duration = Field(default="1d", description="The same is not told again within this time.")
    stale_after: Duration = Field(
        default="3d", description="Age of a promoted model's data after which it is stale."
    )


class ArchiveSettings(_Part):
    """What is archived at night."""

    after: Duration = Field(
        default="3d", description="How long ago a day (UTC) must have ended to be closed."
    )


class RetentionSettings(_Part):
    """What is kept, and how long."""

    events: Duration | None = Field(
        default=None, description="Impressions and feedback; null: for ever. What they counted is kept."
    )
    models: int = Field(default=10, ge=1, description="Versions of an arm in a scope, beside the promoted.")
    datasets: int = Field(default=3, ge=1, description="Nights whose data set is kept.")
    logs: Duration = Field(default="90d", description="Logs of job runs; their rows are kept.")


class Nightly(_Part):
    """The content of `nightly.yaml`."""

    schedule: Schedule = Schedule(cron="30 3 * * *")
    run: Name = Field(default="live", description="The run whose events are learned from.")
    experiments: tuple[Name, ...] | None = Field(
        default=None, description="Those whose arms are retrained; default: every one of the lab."
    )
    arms: dict[Name, ArmSettings] = Field(default_factory=dict, description="What differs, by arm.")
    steps: dict[Step, StepSettings] = Field(default_factory=dict, description="Limits and retries, by step.")
    data: DataSettings = DataSettings()
    gate: GateSettings = GateSettings()
    monitor: MonitorSettings = MonitorSettings()
    alerts: AlertSettings = AlertSettings()
    archive: ArchiveSettings | None = Field(
        default=None, description="Closed days are written to archive_url; then only archived events expire."
    )
    retention: RetentionSettings = RetentionSettings()

    @field_validator("arms")
    @classmethod
    def _steps_in_order(cls, arms: dict[str, ArmSettings]) -> dict[str, ArmSettings]:
        for name, arm in arms.items():
            if [*arm.steps] != [step for step in ARM_STEPS if step in arm.steps]:
                given, allowed = ", ".join(arm.steps), ", ".join(ARM_STEPS)
                raise ValueError(f"{name}.steps: {given} must be some of {allowed}, in this order")
            for step in ("evaluate", "gate", "promote"):
                needed = ARM_STEPS[ARM_STEPS.index(step) - 1]
                if step in arm.steps and needed not in arm.steps:
                    raise ValueError(f"{name}.steps: {step} needs {needed} before it")
        return arms

    def of_step(self, step: str) -> StepSettings:
        """Give the limits of a step."""
        return self.steps.get(step, StepSettings())  # type: ignore[call-overload,no-any-return]

    def of_arm(self, arm: str) -> ArmSettings:
        """Give what is done for an arm."""
        return self.arms.get(arm, ArmSettings())
