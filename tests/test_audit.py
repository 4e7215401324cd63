"""The audit of CI: a known vulnerability fails it, and where nobody could tell that is said."""

import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def audit(root: Path) -> Any:
    """Load the script, whose name is none of a module."""
    loader = SourceFileLoader("audit", str(root / ".ci" / "audit"))
    spec = spec_from_loader("audit", loader)
    assert spec is not None
    made = module_from_spec(spec)
    loader.exec_module(made)
    return made


def skipped(
    name: str, reason: str = "Dependency not found on PyPI and could not be audited"
) -> dict[str, str]:
    return {"name": name, "skip_reason": reason}


OWN = skipped("armlift", "distribution marked as editable")
GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {
    "name": "bad",
    "version": "2.0",
    "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"], "aliases": [], "description": "x"},
        {"id": "PYSEC-2", "fix_versions": [], "aliases": [], "description": "y"},
    ],
}


@pytest.mark.parametrize(
    ("packages", "code", "lines"),
    [
        ([OWN, GOOD], 0, ["audit: 1 packages audited, 0 known vulnerabilities"]),
        (
            [OWN, GOOD, BAD],
            1,
            [
                "audit: bad 2.0: PYSEC-1, mended by 2.1, 3.0",
                "audit: bad 2.0: PYSEC-2, mended by no version yet",
                "audit: 2 packages audited, 2 known vulnerabilities",
            ],
        ),
        (
            [OWN, skipped("a"), skipped("b")],
            0,
            ["audit: NOT AUDITED, the index knows nothing of vulnerabilities: 2 packages"],
        ),
        (
            [BAD, *map(skipped, "abcdef")],
            1,
            [
                "audit: bad 2.0: PYSEC-1, mended by 2.1, 3.0",
                "audit: bad 2.0: PYSEC-2, mended by no version yet",
                "audit: 1 packages audited, 2 known vulnerabilities",
                "audit: 6 could not be audited: a, b, c, d, e, …",
            ],
        ),
    ],
)
def test_what_is_known_decides(audit: Any, packages: list[Any], code: int, lines: list[str]) -> None:
    report = json.dumps({"dependencies": packages, "fixes": []})
    assert audit.judge(report, "No known vulnerabilities found") == (code, lines)


@pytest.mark.parametrize(
    ("complaint", "code", "says"),
    [
        (
            "Traceback\nrequests.exceptions.ProxyError: no way",
            0,
            "audit: NOT AUDITED, the index cannot be rea",
        ),
        ("ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed", 0, "audit: NOT AUDITED, the"),
        (
            "Traceback\npip_audit._service.interface.ServiceError",
            0,
            "audit: NOT AUDITED, the index cannot be",
        ),
        ("/usr/bin/python: No module named pip_audit", 1, "audit: pip-audit failed: /usr/bin/python: No mod"),
        ("Traceback\nKeyError: 'vulns'", 1, "audit: pip-audit failed: KeyError: 'vulns'"),
        ("", 1, "audit: pip-audit failed: pip-audit says nothing"),
    ],
)
def test_an_audit_that_could_not_be_made_is_told_from_a_broken_one(
    audit: Any, complaint: str, code: int, says: str
) -> None:
    found, lines = audit.judge("", complaint)
    assert (found, len(lines)) == (code, 1)
    assert lines[0].startswith(says)
