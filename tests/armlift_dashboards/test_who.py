"""Who may look, by name and by e-mail address."""

import pytest

from armlift.settings import DashboardSettings
from armlift_dashboards.who import Role, role_of

OIDC = DashboardSettings(
    sign_in="oidc", owners=("Ann@Example.org",), viewers=("*@example.org", "bob@other.net")
)


@pytest.mark.parametrize(
    ("address", "role"),
    [
        ("ann@example.org", "owner"),
        ("ANN@EXAMPLE.ORG", "owner"),
        ("carl@example.org", "viewer"),
        ("bob@other.net", "viewer"),
        ("eve@other.net", None),
        ("eve@notexample.org", None),
        ("eve@evil.net@example.org", None),
        ("*@example.org", None),
        ("example.org", None),
        ("", None),
        ("bob@other.net.evil.com", None),
        ("\u212aarl@other.net", None),
    ],
)
def test_roles_by_address(address: str, role: Role | None) -> None:
    assert role_of(OIDC, address) == role


def test_roles_by_name_are_exact() -> None:
    found = DashboardSettings(sign_in="password", owners=("ann",), viewers=("bob", "*@example.org", "ann"))
    assert [role_of(found, name) for name in ("ann", "bob", "Ann", "x@example.org", "")] == [
        "owner", "viewer", None, None, None,
    ]  # fmt: skip
