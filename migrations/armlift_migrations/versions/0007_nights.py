"""What nights need: prompts, experiments that run, jobs and what they did, alerts; who is promoted."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NAME = sa.String(200)
IDENTITY = sa.String(32)
PROMOTED = sa.text("state = 'promoted'")
RUNNING = sa.text("status = 'running'")


def upgrade() -> None:
    # Experiments that are live at the same time share the events of one run.
    with op.batch_alter_table("runs") as batch:
        batch.drop_constraint("pk_runs", type_="primary")
        batch.create_primary_key("pk_runs", ["run", "experiment"])
    op.add_column(
        "models",
        sa.Column(
            "promoted",
            sa.BigInteger,
            comment="when it last began to serve, UTC milliseconds; null: never",
        ),
    )
    op.add_column("models", sa.Column("reasons", sa.JSON, comment="why it was refused"))
    op.create_index(
        "uq_models_promoted", "models", ["arm", "scope"], unique=True,
        sqlite_where=PROMOTED, postgresql_where=PROMOTED,
    )  # fmt: skip
    op.create_table(
        "prompts",
        sa.Column("arm", NAME, nullable=False),
        sa.Column("version", NAME, nullable=False),
        sa.Column("unit_id", NAME, nullable=False),
        sa.Column(
            "position", sa.Integer, nullable=False, comment="of the behaviour answered, in the history it had"
        ),
        sa.Column(
            "step", sa.Integer, nullable=False, comment="which of the prompts to this behaviour, from 0"
        ),
        sa.Column("item_id", NAME, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("answered", NAME, nullable=False, comment="the item of the behaviour answered"),
        sa.Column("ts", sa.BigInteger, nullable=False, comment="when that was"),
        sa.Column("history_hash", IDENTITY, nullable=False, comment="of the history the model was told"),
        sa.Column("written", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("arm", "version", "unit_id", "position", "step", name="pk_prompts"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_prompts_written", "prompts", ["arm", "version", "written"])
    op.create_table(
        "experiments",
        sa.Column("experiment", NAME, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, comment="1 as it was started; each edit is another"),
        sa.Column(
            "definition",
            sa.JSON,
            nullable=False,
            comment="the experiment and its metrics, as in its file",
        ),
        sa.Column("hash", IDENTITY, nullable=False),
        sa.Column("run", NAME, nullable=False, comment="that its events bear"),
        sa.Column("state", NAME, nullable=False, comment="running, paused or stopped; of the newest version"),
        sa.Column("by", NAME, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("experiment", "version", name="pk_experiments"),
    )
    op.create_table(
        "phases",
        sa.Column("experiment", NAME, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, comment="from 0"),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("traffic", sa.Float, nullable=False),
        sa.Column("weights", sa.JSON, comment="new weights of the arms; null: as before"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", NAME, nullable=False),
        sa.PrimaryKeyConstraint("experiment", "number", name="pk_phases"),
    )
    op.create_table(
        "job_runs",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("job", NAME, nullable=False, comment="such as nightly or monitor"),
        sa.Column("subject", NAME, nullable=False, comment="what it is done for: a run and a day, or a time"),
        sa.Column("step", NAME, nullable=False, comment="empty: the whole job"),
        sa.Column("arm", NAME, nullable=False, comment="empty: of no one arm"),
        sa.Column("scope", NAME, nullable=False, comment="of the arm; empty: of no one arm"),
        sa.Column("attempt", sa.Integer, nullable=False, comment="from 1"),
        sa.Column("status", NAME, nullable=False, comment="running, succeeded, failed or skipped"),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column(
            "owner", NAME, nullable=False, comment="the process that does it: host, process id, and its start"
        ),
        sa.Column(
            "seen", sa.BigInteger, nullable=False, comment="its last sign of life, by the database's clock"
        ),
        sa.Column("inputs_hash", IDENTITY, nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("outputs", sa.JSON, nullable=False),
        sa.Column(
            "versions", sa.JSON, nullable=False, comment="of armlift, Python and the libraries that count"
        ),
        sa.Column("log", sa.Text, comment="the file that holds what it wrote"),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_job_runs"),
    )
    op.create_index("ix_job_runs_subject", "job_runs", ["job", "subject"])
    op.create_index(
        "uq_job_runs_running", "job_runs", ["job", "subject", "step", "arm", "scope"], unique=True,
        sqlite_where=RUNNING, postgresql_where=RUNNING,
    )  # fmt: skip
    op.create_table(
        "scheduled_jobs",
        sa.Column("id", sa.Unicode(191), nullable=False),
        sa.Column("next_run_time", sa.Float(25)),
        sa.Column("job_state", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scheduled_jobs"),
    )
    op.create_index("ix_scheduled_jobs_next_run_time", "scheduled_jobs", ["next_run_time"])
    op.create_table(
        "alerts",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False, autoincrement=True
        ),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("subject", NAME, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("deliveries", sa.JSON, nullable=False, comment="what became of it, by channel"),
        sa.PrimaryKeyConstraint("number", name="pk_alerts"),
    )
    op.create_index("ix_alerts_subject", "alerts", ["kind", "subject", "at"])
