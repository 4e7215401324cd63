import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from armlift.arm import Arm, ArmConfig, Exploration, History, ItemTable, Request, arm_class, new_arm
from armlift.artefacts import (
    MANIFEST_FILE,
    MODEL_FILE,
    Manifest,
    artefact_folder,
    definition_of,
    delete_artefact,
    has_artefact,
    list_artefacts,
    load_artefact,
    model_bytes,
    pack_strings,
    read_weights,
    save_artefact,
    stored_versions,
    unpack_strings,
    version_of,
    write_weights,
)
from armlift.errors import InputError
from armlift_arms.random import RandomConfig

CREATED = "2024-05-01T00:00:00+00:00"
TENSORS = {
    "b": np.arange(6, dtype=np.int64).reshape(2, 3),
    "a": np.array([0.5, 1.5]),
    "none": np.zeros((0, 4)),
}
KINDS = [
    Exploration(kind="epsilon"),
    Exploration(kind="softmax", slots=2),
    Exploration(kind="plackett_luce", temperature=0.2),
]


def config(**changes: object) -> ArmConfig:
    return arm_class("random").config_class.model_validate({"name": "mine", "model": "random"} | changes)


def fitted(ids: str = "abc", until: int = 100) -> Arm:
    arm = new_arm(config())
    arm.fit([History("u", [])], ItemTable(list(ids)), until=until)
    return arm


def stored(url: str, ids: str = "abc", until: int = 100, created: str = CREATED) -> Manifest:
    return save_artefact(
        fitted(ids, until), url, data_hash="d", data_until=until, created=created, figures={"hr": 0.5}
    )


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "models") if request.param == "local" else f"memory://{uuid4().hex}/models"


def files_of(url: str) -> dict[str, bytes]:
    files, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(root): files.cat_file(path) for path in files.find(root)}


def overwrite(url: str, name: str, content: bytes) -> None:
    files, root = fsspec.core.url_to_fs(url)
    (path,) = (path for path in files.find(root) if path.endswith(name))
    files.pipe_file(path, content)


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=()))))
def test_packed_strings_come_back(strings: list[str]) -> None:
    text, offsets = pack_strings(strings)
    assert (str(text.dtype), str(offsets.dtype), len(offsets)) == ("uint8", "int64", len(strings) + 1)
    assert unpack_strings(text, offsets) == strings


@pytest.mark.parametrize("exploration", [None, *KINDS], ids=repr)
def test_weights_and_definition_come_back(tmp_path: Path, exploration: Exploration | None) -> None:
    written = config(exploration=exploration, history_kinds=["like"])
    write_weights(tmp_path, written, TENSORS)
    read, tensors = read_weights(tmp_path, RandomConfig)
    assert read == written
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype


def test_a_weights_file_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / MODEL_FILE
    with pytest.raises(InputError, match=r"cannot be read: .*[Nn]o such file"):
        read_weights(tmp_path, ArmConfig)
    path.write_bytes(b"not a model")
    with pytest.raises(InputError, match="is not a safetensors file"):
        read_weights(tmp_path, ArmConfig)
    save_file(TENSORS, path)
    with pytest.raises(InputError, match="holds no arm definition"):
        read_weights(tmp_path, ArmConfig)
    save_file(TENSORS, path, {"config": '{"name": "mine", "model": "random", "sed": 1}'})
    with pytest.raises(InputError, match=r"is not of ArmConfig: sed: Extra inputs") as caught:
        read_weights(tmp_path, ArmConfig)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_version_names_definition_and_weights() -> None:
    model = model_bytes(config(), TENSORS)
    version = version_of(config(), model)
    assert len(version) == 12
    assert version == version_of(config(seed=0), model_bytes(config(), dict(reversed(TENSORS.items()))))
    assert version == version_of(definition_of(config()), model)
    assert version != version_of(config(seed=1), model)
    assert version != version_of(config(), model_bytes(config(), TENSORS | {"a": np.array([0.5, 1.0])}))


def test_a_default_written_out_is_the_same_definition() -> None:
    short = config(exploration={"kind": "epsilon"})
    long = config(exploration={"kind": "epsilon", "epsilon": 0.1}, seed=0)
    assert definition_of(short) == definition_of(long)


def test_a_version_is_the_same_in_another_process() -> None:
    program = (
        "from armlift.arm import ItemTable, arm_class\n"
        "from armlift_arms.random import RandomConfig\n"
        "arm = arm_class('random')(RandomConfig(name='mine', model='random'))\n"
        "arm.fit([], ItemTable(['a', 'b', 'c']), until=100)\n"
        "print(arm.version)"
    )
    for hash_seed in "12":
        answer = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.strip() == fitted().version


def test_an_artefact_comes_back(url: str) -> None:
    manifest = stored(url)
    arm, loaded = load_artefact(url, "mine", manifest.version)
    assert loaded == manifest
    assert arm.version == manifest.version == fitted().version
    assert manifest.definition == definition_of(arm.config)
    assert (manifest.data_until, manifest.figures) == (100, {"hr": 0.5})
    request = Request("r", "u", 100, 2)
    assert arm.recommend([request]) == fitted().recommend([request])
    assert files_of(url).keys() == {
        f"/mine/{manifest.version}/{MODEL_FILE}",
        f"/mine/{manifest.version}/{MANIFEST_FILE}",
    }


def test_the_same_content_again_changes_nothing(url: str) -> None:
    manifest = stored(url)
    before = files_of(url)
    assert stored(url, created="2030-01-01T00:00:00+00:00") == manifest
    assert files_of(url) == before


def test_artefacts_are_listed_by_the_end_of_their_data(url: str) -> None:
    assert list_artefacts(url, "mine") == []
    late, early, later = stored(url, until=200), stored(url, until=100), stored(url, ids="abcd", until=300)
    assert list_artefacts(url, "mine") == [early, late, later]
    assert list_artefacts(url, "other") == []


def test_a_folder_is_lent_with_the_model(url: str) -> None:
    manifest = stored(url)
    with artefact_folder(url, "mine", manifest.version) as (folder, lent):
        assert lent == manifest
        assert arm_class("random").load(folder).version == manifest.version
    assert not folder.exists()


def test_an_unfinished_artefact_does_not_exist_and_can_be_finished(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if url.startswith("memory"):
            original = MemoryFileSystem.pipe_file
            patch.setattr(
                MemoryFileSystem,
                "pipe_file",
                lambda self, path, value: (full if path.endswith(MANIFEST_FILE) else original)(
                    self, path, value
                ),
            )
        else:
            patch.setattr(os, "rename", full)
        with pytest.raises(InputError, match=r"mine/[0-9a-f]{12}: cannot be written: No space left"):
            stored(url)
    assert list_artefacts(url, "mine") == []
    assert all(name.endswith(MODEL_FILE) for name in files_of(url))
    manifest = stored(url)
    assert list_artefacts(url, "mine") == [manifest]


def test_two_savers_of_the_same_content_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, rename = str(tmp_path), os.rename
    first: list[Manifest] = []

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        first.append(stored(url))
        rename(source, target)

    monkeypatch.setattr(os, "rename", overtaken)
    assert stored(url, created="2030-01-01T00:00:00+00:00") == first[0]
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [first[0].version]


def assert_refused(url: str, version: str, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_artefact(url, "mine", version)
    line = str(caught.value)
    assert "\n" not in line
    assert "/mine/" in line
    for word in words:
        assert word in line


def test_a_missing_artefact_is_refused(url: str) -> None:
    assert_refused(url, "0123456789ab", "there is no such artefact of 'mine'")


def test_a_missing_model_file_is_refused(tmp_path: Path) -> None:
    version = stored(str(tmp_path)).version
    (tmp_path / "mine" / version / MODEL_FILE).unlink()
    assert_refused(str(tmp_path), version, MODEL_FILE, "no such artefact")


def test_a_corrupted_model_file_is_refused(url: str) -> None:
    version = stored(url).version
    content = files_of(url)[f"/mine/{version}/{MODEL_FILE}"]
    overwrite(url, MODEL_FILE, content[:-1] + bytes([content[-1] ^ 1]))
    assert_refused(url, version, MODEL_FILE, "is corrupted: sha256")
    with pytest.raises(InputError, match="is corrupted"):
        stored(url)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b"\xff"])
def test_an_unreadable_manifest_is_refused(url: str, content: bytes) -> None:
    version = stored(url).version
    overwrite(url, MANIFEST_FILE, content)
    assert_refused(url, version, MANIFEST_FILE, "is not a manifest")
    with pytest.raises(InputError, match="is not a manifest"):
        list_artefacts(url, "mine")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"arm": "other"},
            "(arm, model) is ('other', 'random'), must be the definition's ('mine', 'random')",
        ),
        ({"model": "popularity"}, "is not a manifest: Value error, (arm, model) is ('mine', 'popularity')"),
        ({"version": "0123456789ab"}, "(arm, version) is ('mine', '0123456789ab')"),
        ({"definition": definition_of(config(seed=1))}, "definition gives "),
    ],
)
def test_a_manifest_of_something_else_is_refused(url: str, change: dict[str, object], words: str) -> None:
    manifest = stored(url)
    overwrite(url, MANIFEST_FILE, json.dumps(manifest.model_dump() | change).encode())
    assert_refused(url, manifest.version, words)


class OtherConfig(RandomConfig):
    beyond: int = 1


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        (config(model="unheard_of"), "model: 'unheard_of' is not installed, must be one of "),
        (OtherConfig(name="mine", model="random"), "is not of RandomConfig: beyond: Extra inputs"),
    ],
)
def test_an_artefact_nothing_can_load_is_refused(url: str, definition: ArmConfig, words: str) -> None:
    make: Any = arm_class("random")
    arm = make(definition)
    manifest = save_artefact(arm, url, data_hash="d", data_until=0, created=CREATED)
    assert_refused(url, manifest.version, f"{MODEL_FILE}: cannot be loaded: {words}")


def test_a_url_of_no_known_kind_is_refused() -> None:
    with pytest.raises(InputError, match="artefact_url: 'nowhere://x' cannot be opened"):
        list_artefacts("nowhere://x", "mine")


def test_an_artefact_is_removed_whole_and_alone(url: str) -> None:
    first, second = stored(url), stored(url, ids="xyz")
    assert stored_versions(url, "mine") == sorted([first.version, second.version])
    assert delete_artefact(url, "mine", first.version)
    assert [*files_of(url)] == [f"/mine/{second.version}/{name}" for name in (MANIFEST_FILE, MODEL_FILE)]
    assert not delete_artefact(url, "mine", first.version), "nothing is there any more"
    assert not delete_artefact(url, "other", second.version)
    assert stored_versions(url, "mine") == [second.version]
    assert stored_versions(url, "other") == []
    assert load_artefact(url, "mine", second.version)[1] == second
    assert stored(url) == first, "it can be stored again"


def test_what_is_left_of_an_artefact_is_removed_too(url: str) -> None:
    version = stored(url).version
    files, root = fsspec.core.url_to_fs(url)
    files.rm_file(f"{root}/mine/{version}/{MANIFEST_FILE}")
    assert not has_artefact(url, "mine", version)
    assert stored_versions(url, "mine") == [version]
    assert delete_artefact(url, "mine", version)
    assert files_of(url) == {}


@pytest.mark.parametrize("version", ["", ".", "..", "../other", "A" * 12, "0" * 13])
def test_what_is_no_version_is_not_removed(url: str, version: str) -> None:
    stored(url)
    with pytest.raises(InputError, match=r"artefact mine: .* is no version, must be 12 digits"):
        delete_artefact(url, "mine", version)
    assert len(files_of(url)) == 2
