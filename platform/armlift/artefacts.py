"""Artefacts: an arm's weights and what is known about them, under the lab's `artefact_url`.

    <artefact_url>/<arm>/<version>/model.safetensors    weights, with the arm definition in the metadata
    <artefact_url>/<arm>/<version>/manifest.json        written last: an artefact without it does not exist

The URL is a local folder or any fsspec URL. A version names content: the first 12 hexadecimal digits of
sha256(definition + weights), so what stands under it never changes.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import fsspec
import numpy as np
import numpy.typing as npt
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from armlift.arm import Arm, ArmConfig, Name, arm_class
from armlift.errors import InputError

MODEL_FILE = "model.safetensors"
MANIFEST_FILE = "manifest.json"
_CONFIG_KEY = "config"
_VERSION = re.compile("[0-9a-f]{12}")

Tensors = dict[str, npt.NDArray[Any]]
Config = TypeVar("Config", bound=ArmConfig)
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]


class Manifest(BaseModel):
    """What is known about an artefact.

    `sha256` is that of the model file; `data_hash` names the training data, which end before `data_until`, in
    UTC milliseconds; `parent` is the version that training started from, or was to take the place of; `code`
    names the versions of what fitted it, by package; `created` is an ISO 8601 time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    arm: Name
    version: Version
    model: str
    definition: dict[str, Any]
    sha256: Sha256
    data_hash: str
    data_until: int
    parent: Version | None = None
    figures: dict[str, FiniteFloat] = Field(default_factory=dict)
    code: dict[str, str] = Field(default_factory=dict)
    created: str

    @model_validator(mode="after")
    def _speaks_of_its_definition(self) -> Self:
        told, defined = (self.arm, self.model), (self.definition.get("name"), self.definition.get("model"))
        if told != defined:
            raise ValueError(f"(arm, model) is {told}, must be the definition's {defined}")
        return self


def definition_of(config: ArmConfig) -> dict[str, Any]:
    """Write an arm definition as plain values, defaults filled in: equal definitions give equal values."""
    definition = config.model_dump(mode="json")
    if config.exploration is not None:
        # Exploration refuses keys its kind does not use, even at their defaults: none at its default is kept.
        definition["exploration"] = config.exploration.model_dump(mode="json", exclude_defaults=True)
    return definition


def version_of(config: ArmConfig | Mapping[str, Any], model: bytes) -> str:
    """Name a definition with its weights: 12 hexadecimal digits; `model` is the model file's content."""
    return hashlib.sha256(_canonical(config).encode() + model).hexdigest()[:12]


def _canonical(config: ArmConfig | Mapping[str, Any]) -> str:
    definition = definition_of(config) if isinstance(config, ArmConfig) else config
    return json.dumps(definition, sort_keys=True, separators=(",", ":"))


def model_bytes(config: ArmConfig, tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Write weights and definition in the safetensors format; equal input gives equal bytes."""
    # One metadata key only: the library does not keep the order of several.
    dense = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return safetensors_bytes(dense, {_CONFIG_KEY: _canonical(config)})


def write_weights(folder: Path, config: ArmConfig, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write `model.safetensors` in an existing folder."""
    (folder / MODEL_FILE).write_bytes(model_bytes(config, tensors))


def read_weights(folder: Path, config_class: type[Config]) -> tuple[Config, Tensors]:
    """Read a folder's `model.safetensors`; raises InputError if there is none with such a definition."""
    path = folder / MODEL_FILE
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise InputError(f"{path}: is not a safetensors file: {error}") from error
    if _CONFIG_KEY not in metadata:
        raise InputError(f"{path}: holds no arm definition under the metadata key {_CONFIG_KEY!r}")
    try:
        return config_class.model_validate_json(metadata[_CONFIG_KEY]), tensors
    except ValidationError as error:
        raise InputError(f"{path}: is not of {config_class.__name__}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """Put the first of pydantic's errors in one line."""
    first = error.errors(include_url=False)[0]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))


def pack_strings(strings: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Write strings as tensors: their UTF-8 bytes end to end, uint8, and where each begins, int64 [n + 1]."""
    encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(piece) for piece in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


def unpack_strings(text: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> list[str]:
    """Read the strings that `pack_strings` wrote."""
    raw, bounds = text.tobytes(), offsets.tolist()
    return [raw[start:end].decode("utf-8", "surrogatepass") for start, end in pairwise(bounds)]


def save_artefact(
    arm: Arm,
    url: str,
    *,
    data_hash: str,
    data_until: int,
    created: str,
    parent: str | None = None,
    figures: Mapping[str, float] | None = None,
    code: Mapping[str, str] | None = None,
) -> Manifest:
    """Store an arm, all of it or nothing, and set its version; the same content again changes nothing.

    Returns the stored manifest (the first one, if stored before). Raises InputError if the URL cannot be used
    or what stands there under this version is broken.
    """
    with tempfile.TemporaryDirectory() as scratch:
        arm.save(Path(scratch))
        model = (Path(scratch) / MODEL_FILE).read_bytes()
    arm.version = version_of(arm.config, model)
    manifest = Manifest(
        arm=arm.config.name,
        version=arm.version,
        model=arm.config.model,
        definition=definition_of(arm.config),
        sha256=hashlib.sha256(model).hexdigest(),
        data_hash=data_hash,
        data_until=data_until,
        parent=parent,
        figures=dict(figures or {}),
        code=dict(code or {}),
        created=created,
    )
    place = _Place(url, manifest.arm, manifest.version)
    if not place.has_manifest():
        place.write({MODEL_FILE: model, MANIFEST_FILE: manifest.model_dump_json(indent=2).encode()})
    return _verified(place)[0]


def load_artefact(url: str, arm_name: str, version: str) -> tuple[Arm, Manifest]:
    """Read an arm of a version with its manifest.

    Raises InputError, one line with the path, if the artefact is missing or unfinished, its manifest cannot
    be read or speaks of another arm, version or definition, its model file is not the one the manifest knows,
    or its recommender is not installed.
    """
    with artefact_folder(url, arm_name, version) as (folder, manifest):
        try:
            arm = arm_class(manifest.model).load(folder)
        except InputError as error:
            reason = str(error).removeprefix(f"{folder / MODEL_FILE}: ")
            place = _Place(url, arm_name, version)
            raise place.error(MODEL_FILE, f"cannot be loaded: {reason}") from error
    arm.version = manifest.version
    return arm, manifest


@contextmanager
def artefact_folder(url: str, arm_name: str, version: str) -> Iterator[tuple[Path, Manifest]]:
    """Lend a local folder with the model file, for `load` or `fit(warm=...)`; raises as `load_artefact`."""
    manifest, model = _verified(_Place(url, arm_name, version))
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / MODEL_FILE).write_bytes(model)
        yield Path(scratch), manifest


def read_manifest(url: str, arm_name: str, version: str) -> Manifest:
    """Read what is known about an artefact; raises InputError if it is missing or its manifest is broken."""
    return _manifest(_Place(url, arm_name, version))


def has_artefact(url: str, arm_name: str, version: str) -> bool:
    """Tell whether an artefact is stored; whether it is sound shows when it is loaded."""
    return _Place(url, arm_name, version).has_manifest()


def stored_versions(url: str, arm_name: str) -> list[str]:
    """List the versions of an arm of which something is stored, also what was left unfinished, sorted."""
    files, root = _file_system(url)
    try:
        names = [Path(path).name for path in files.ls(f"{root}/{arm_name}", detail=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if _VERSION.fullmatch(name))


def delete_artefact(url: str, arm_name: str, version: str) -> bool:
    """Remove an artefact with its folder, also one that is unfinished; tells whether anything was there.

    The manifest goes first: whatever breaks it off, an artefact is whole or does not exist. Raises InputError
    for what is no version, and where files cannot be removed.
    """
    if not _VERSION.fullmatch(version):
        raise InputError(f"artefact {arm_name}: {version!r} is no version, must be 12 digits of 0-9 and a-f")
    return _Place(url, arm_name, version).remove()


def list_artefacts(url: str, arm_name: str) -> list[Manifest]:
    """Read an arm's manifests, by `data_until`, then `created`; raises InputError if one is broken."""
    files, root = _file_system(url)
    try:
        names = [Path(path).name for path in files.ls(f"{root}/{arm_name}", detail=False)]
    except FileNotFoundError:
        return []
    places = [_Place(url, arm_name, name) for name in names if not name.startswith(".")]
    manifests = [_manifest(place) for place in places if place.has_manifest()]
    return sorted(manifests, key=lambda found: (found.data_until, found.created, found.version))


class _Place:
    """Where one version of an arm stands."""

    def __init__(self, url: str, arm_name: str, version: str) -> None:
        self._files, root = _file_system(url)
        self._folder = f"{root}/{arm_name}/{version}"
        self._shown = f"{url.rstrip('/')}/{arm_name}/{version}"
        self.arm_name = arm_name
        self.version = version

    def error(self, name: str, reason: str) -> InputError:
        return InputError(f"{self._shown}/{name}: {reason}")

    def has_manifest(self) -> bool:
        return bool(self._files.exists(f"{self._folder}/{MANIFEST_FILE}"))

    def read(self, name: str) -> bytes:
        try:
            return bytes(self._files.cat_file(f"{self._folder}/{name}"))
        except FileNotFoundError as error:
            raise self.error(name, f"there is no such artefact of {self.arm_name!r}") from error
        except OSError as error:
            raise self.error(name, f"cannot be read: {error.strerror or error}") from error

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write files in their order; in a local folder they appear at once."""
        try:
            if isinstance(self._files, LocalFileSystem):
                self._write_at_once(contents)
            else:
                self._files.makedirs(self._folder, exist_ok=True)
                for name, content in contents.items():  # one by one: `pipe` of both may not keep their order
                    self._files.pipe_file(f"{self._folder}/{name}", content)
        except OSError as error:
            raise InputError(f"{self._shown}: cannot be written: {error.strerror or error}") from error

    def remove(self) -> bool:
        """Remove what is there; tells whether anything was."""
        if not self._files.exists(self._folder):
            return False
        try:
            if self.has_manifest():
                self._files.rm_file(f"{self._folder}/{MANIFEST_FILE}")
            self._files.rm(self._folder, recursive=True)
        except FileNotFoundError:  # somebody else removes it too
            return True
        except OSError as error:
            raise InputError(f"{self._shown}: cannot be removed: {error.strerror or error}") from error
        return True

    def _write_at_once(self, contents: Mapping[str, bytes]) -> None:
        final = Path(self._folder)
        scratch = final.with_name(f".{final.name}-{uuid.uuid4().hex}")
        scratch.mkdir(parents=True)
        try:
            for name, content in contents.items():
                (scratch / name).write_bytes(content)
            os.rename(scratch, final)
        except OSError:
            shutil.rmtree(scratch)
            # Somebody else may have stored the same content in the meantime, which is as good.
            if not self.has_manifest():
                raise


def _file_system(url: str) -> tuple[Any, str]:
    """Open an artefact URL; returns an fsspec file system and the path in it."""
    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InputError(f"artefact_url: {url!r} cannot be opened: {error}") from error
    files.invalidate_cache()  # others write there too
    return files, root.rstrip("/")


def _manifest(place: _Place) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(place.read(MANIFEST_FILE))
    except ValidationError as error:
        raise place.error(MANIFEST_FILE, f"is not a manifest: {_first(error)}") from error
    found, wanted = (manifest.arm, manifest.version), (place.arm_name, place.version)
    if found != wanted:
        raise place.error(MANIFEST_FILE, f"(arm, version) is {found}, must be {wanted}")
    return manifest


def _verified(place: _Place) -> tuple[Manifest, bytes]:
    """Read manifest and model file, and check each against the other and against the version."""
    manifest = _manifest(place)
    model = place.read(MODEL_FILE)
    found = hashlib.sha256(model).hexdigest()
    if found != manifest.sha256:
        raise place.error(MODEL_FILE, f"is corrupted: sha256 is {found}, must be {manifest.sha256}")
    named = version_of(manifest.definition, model)
    if named != manifest.version:
        raise place.error(MANIFEST_FILE, f"definition gives {named}, must give {manifest.version}")
    return manifest, model
