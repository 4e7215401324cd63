"""Fitted arms: the artefacts of a lab, and fits that go on where they were broken off."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine, select

from armlift import processes
from armlift.arm import Arm, ArmConfig, arm_class, arm_classes, new_arm
from armlift.artefacts import Manifest, artefact_folder, has_artefact, load_artefact, save_artefact
from armlift.errors import InputError
from armlift.fitting import Tell, fitting
from armlift.heldout import TrainingSet
from armlift.lab import Lab
from armlift.lineage import code_versions
from armlift.promotions import EVERY_EXPERIMENT, add_candidate
from armlift.store.database import writing
from armlift.store.tables import models

CHECKPOINTS = "checkpoints"
"""The folder of a lab where fits keep what they need to go on after they were broken off."""


def definition_hash(config: ArmConfig) -> str:
    """Hash an arm's definition: what it holds, not how its YAML is written."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Start(NamedTuple):
    """What a fit goes on from: a folder with the model file, for `fit(warm=...)`, and its manifest."""

    folder: Path
    manifest: Manifest


Watch = Callable[[ArmConfig], AbstractContextManager[Tell | None]]
"""What is entered while an arm is fitted; it gives whom to tell of every epoch."""


class FittedArms:
    """The arms a lab has fitted: their artefacts, and the rows of `models` that say on what data.

    An arm is one of a definition, of data, and of the artefact `warm` of the same arm that it went on from,
    if any: a version. Its `parent` is that artefact, or another that it is to take the place of. What is
    fitted is a candidate in `scope`, an experiment's name or `*` for every one; what was fitted for another
    scope is not known. Whatever takes a `warm` raises InputError for one that is missing, damaged, of another
    model, or of a model that always learns from all its data.
    """

    def __init__(
        self, lab: Lab, engine: Engine, *, scope: str = EVERY_EXPERIMENT, watch: Watch | None = None
    ) -> None:
        self._engine = engine
        self._scope = scope
        self._watch = watch or _unwatched
        self._checkpoints = lab.folder / CHECKPOINTS
        self.url = lab.resolve(lab.settings.artefact_url)

    def arm(
        self, config: ArmConfig, data: TrainingSet, *, warm: str | None = None, parent: str | None = None
    ) -> Arm:
        """Give an arm of these data and this definition: from its artefact if there is one, else fitted now.

        Raises InputError for an artefact that is damaged.
        """
        return self.known(config, data.data_hash, warm=warm, parent=parent) or self.fit(
            config, data, warm=warm, parent=parent
        )

    def known(
        self, config: ArmConfig, data_hash: str, *, warm: str | None = None, parent: str | None = None
    ) -> Arm | None:
        """Load the arm fitted on data of this hash; None if there is none, or its artefact is lost."""
        with self.start(config, warm), self._engine.connect() as connection:
            version = connection.execute(
                select(models.c.version).where(
                    models.c.arm == config.name,
                    models.c.scope == self._scope,
                    models.c.data_hash == data_hash,
                    models.c.definition_hash == definition_hash(config),
                    models.c.parent == (parent or warm),
                )
            ).scalar()
        if version is None or not has_artefact(self.url, config.name, version):
            return None
        return load_artefact(self.url, config.name, version)[0]

    def fit(
        self, config: ArmConfig, data: TrainingSet, *, warm: str | None = None, parent: str | None = None
    ) -> Arm:
        """Fit an arm and store it as a candidate.

        A fit that was broken off goes on from its checkpoints. Of several processes the first one stores.
        """
        arm = new_arm(config)
        checkpoints = self._checkpoints_of(config, data, warm)
        with (
            self.start(config, warm) as start,
            self._watch(config) as tell,
            fitting(tell, checkpoints) as figures,
        ):
            folder = None if start is None else start.folder
            arm.fit(data.histories(), data.items, until=data.until, warm=folder)
        if processes.is_first():
            self._store(arm, data, parent or warm, figures)
            _remove(checkpoints)
        return arm

    @contextmanager
    def start(self, config: ArmConfig, warm: str | None) -> Iterator[Start | None]:
        """Lend what an arm is to go on from; None where it begins anew."""
        if warm is None:
            yield None
            return
        if "warm" not in arm_class(config.model).capabilities:
            able = sorted(model for model, kind in arm_classes().items() if "warm" in kind.capabilities)
            raise InputError(
                f"arm {config.name}: model {config.model!r} goes on from no artefact, "
                f"must be one of {', '.join(able)}"
            )
        with artefact_folder(self.url, config.name, warm) as (folder, manifest):
            if manifest.model != config.model:
                raise InputError(
                    f"artefact {config.name}/{warm}: is of the model {manifest.model!r}, "
                    f"must be of {config.model!r}"
                )
            yield Start(folder, manifest)

    def _checkpoints_of(self, config: ArmConfig, data: TrainingSet, warm: str | None) -> Path:
        """Name a folder that no other definition, data or beginning has."""
        identity = f"{definition_hash(config)}|{data.data_hash}|{warm}"
        return self._checkpoints / config.name / hashlib.sha256(identity.encode()).hexdigest()[:16]

    def _store(self, arm: Arm, data: TrainingSet, parent: str | None, figures: Mapping[str, float]) -> None:
        name, created = arm.config.name, datetime.now(UTC).isoformat(timespec="seconds")
        manifest = save_artefact(
            arm,
            self.url,
            data_hash=data.data_hash,
            data_until=data.until,
            created=created,
            parent=parent,
            figures=figures,
            code=code_versions(),
        )
        with writing(self._engine) as connection:
            add_candidate(
                connection,
                name,
                self._scope,
                manifest.version,
                data_hash=data.data_hash,
                data_until=data.until,
                definition_hash=definition_hash(arm.config),
                parent=parent,
            )


def _unwatched(_: ArmConfig) -> AbstractContextManager[None]:
    return nullcontext()


def _remove(checkpoints: Path) -> None:
    """Remove the checkpoints of a fit that is stored, and the folders above that hold nothing more."""
    shutil.rmtree(checkpoints, ignore_errors=True)
    with suppress(OSError):
        checkpoints.parent.rmdir()
        checkpoints.parent.parent.rmdir()
