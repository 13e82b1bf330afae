"""Figures and times as pages write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from service.templates import milliseconds, moment, number, share, size


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0123456, 4, "0.01235"),
        (12.3456, 4, "12.35"),
        (1234.56, 4, "1235"),
        (0.5, 3, "0.500"),
        (0.0, 4, "0.000"),
        (-0.25, 3, "-0.250"),
        (1e-7, 4, "1.000e-07"),
        (123456.0, 4, "1.235e+05"),
        (float("inf"), 4, "inf"),
    ],
)
def test_numbers_have_so_many_digits(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


def test_shares_times_and_sizes_have_their_units() -> None:
    assert [share(value) for value in (0.9741, 1.0, 0.0, None)] == ["97.4 %", "100.0 %", "0.0 %", "–"]
    assert [milliseconds(value) for value in (0.00421, 1.5, None)] == ["4.2 ms", "1500.0 ms", "–"]
    assert [size(value) for value in (0, 999, 12_345_678, 5e15)] == ["0 B", "999 B", "12.3 MB", "5000.0 TB"]


def test_a_moment_is_the_same_from_the_ledger_and_from_any_zone() -> None:
    html = '<time datetime="2026-11-20T23:06:31.250Z">2026-11-20 23:06:31 UTC</time>'
    in_utc = datetime(2026, 11, 20, 23, 6, 31, 250_000, UTC)
    assert moment(in_utc) == html
    assert moment(in_utc.astimezone(timezone(timedelta(hours=9)))) == html
    assert moment(round(in_utc.timestamp() * 1e6)) == html
