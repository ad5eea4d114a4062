"""Masking of addresses."""

from __future__ import annotations

import pytest

from junebug_turn.telemetry.masking import is_address, mask, mask_digits, mask_numbers


@pytest.mark.parametrize(
    ("address", "shown", "with_four_stars"),
    [
        ("+27820000001", "********0001", "****0001"),
        ("12345", "*2345", "****2345"),
        ("8110", "8110", "8110"),
        ("1", "1", "1"),
        ("", "", ""),
    ],
)
def test_mask(address: str, shown: str, with_four_stars: str) -> None:
    """Of an address the last four characters can be read; the stars tell its length, or a number is given."""
    assert mask(address) == shown
    assert mask(address, stars=4) == with_four_stars


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("+27820000001", "***0001"),
        ("*120*8864#", "***8864"),
        ("a1@example.org", "***1"),
        ("nobody", "***"),
        (27820000001, "***0001"),
    ],
)
def test_mask_digits(address: object, shown: str) -> None:
    """Of an address the last four digits can be read."""
    assert mask_digits(address) == shown


def test_mask_numbers() -> None:
    """Numbers in international form are masked wherever they stand; shorter ones are no telephone numbers."""
    assert mask_numbers("from +27820000001 to +27820000002: +123456") == "from ***0001 to ***0002: +123456"


def test_is_address() -> None:
    """Fields are addresses by their names."""
    assert [
        name for name in ("addr", "to_addr", "from_addr", "address", "addr_type") if is_address(name)
    ] == [
        "addr",
        "to_addr",
        "from_addr",
    ]
