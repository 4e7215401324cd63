"""The house stands as the documents say: folders, arrows, imports, and the file tree."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE_ROOTS = ("platform", "arms", "pipelines", "dashboards", "migrations")
TREE_ROOTS = (*SOURCE_ROOTS, "benchmarks", "docs")


def test_the_standard_library_keeps_its_platform_module(root: Path) -> None:
    assert not (root / "platform" / "__init__.py").exists()
    assert platform.python_version_tuple()[0] == "3"
    assert "armlift" not in (platform.__file__ or "")


@pytest.mark.parametrize("folder", SOURCE_ROOTS)
def test_a_source_root_holds_one_typed_package(root: Path, folder: str) -> None:
    packages = [path.parent for path in (root / folder).glob("*/__init__.py")]
    assert len(packages) == 1
    assert packages[0].name == "armlift" if folder == "platform" else packages[0].name == f"armlift_{folder}"
    assert (packages[0] / "py.typed").exists()


def test_arrows_point_down(root: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    "package", ["armlift.cli", "armlift.report", "armlift.replay", "armlift_arms.popularity"]
)
def test_the_core_never_loads_torch(package: str) -> None:
    code = f"import sys, {package}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_file_tree_in_the_documents_is_the_one_on_disk(root: Path) -> None:
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"```tree\n(.*?)```", text, re.S)
    assert block is not None
    listed, folders = set(), [""]
    for line in block[1].splitlines():
        name = line.strip().split(" ")[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders = folders[: depth + 1]
        if name.endswith("/"):
            folders.append(folders[-1] + name)
        else:
            listed.add(folders[-1] + name)
    ignored = {"__pycache__", "py.typed"}
    found = {
        path.relative_to(root).as_posix()
        for folder in TREE_ROOTS
        for path in (root / folder).rglob("*")
        if path.is_file() and not ignored & {*path.parts} and not path.name.startswith(".")
    }
    assert sorted(listed - found) == []
    assert sorted(found - listed) == []


def test_tests_mirror_the_sources(root: Path) -> None:
    modules = {
        "/".join(path.relative_to(root / folder).with_suffix("").parts)
        for folder in SOURCE_ROOTS
        for path in (root / folder).rglob("*.py")
    }
    others = {
        "access",
        "golden",
        "splitter_statistics",
        "verdict_laws",
        "embedded_model",
        "contract",
        "migrations",
    }
    others |= {"faults", "ingest_faults", "schema", "ingest_group", "balanced"}
    others |= {"dataset_sharded", "report"}
    for path in (root / "tests").rglob("test_*.py"):
        parts = path.relative_to(root / "tests").with_suffix("").parts
        name = parts[-1].removeprefix("test_")
        if len(parts) == 1 or name in others or name.startswith("replay_"):
            continue
        assert "/".join((*parts[:-1], name)) in modules, path
