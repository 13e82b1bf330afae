"""Token buckets: the rate holds over time, a burst is bounded, and so is the memory of names."""

import pytest

from service.errors import QuotaExceeded
from service.security.buckets import Buckets, neighbourhood
from service.security.quotas import Quotas


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_holds_whatever_the_client_tries() -> None:
    clock = Clock()
    buckets = Buckets(per_second=2.0, burst=3.0, clock=clock)
    taken = 0
    for _ in range(1000):
        clock.now += 0.01
        taken += buckets.take("one") == 0.0
    assert taken == 3 + 2 * 10 - 1 or taken == 3 + 2 * 10


def test_the_wait_that_is_told_is_enough_and_no_longer_than_needed() -> None:
    clock = Clock()
    buckets = Buckets(per_second=0.5, burst=1.0, clock=clock)
    assert buckets.take("one") == 0.0
    wait = buckets.take("one")
    assert wait == pytest.approx(2.0)
    clock.now += wait - 0.01
    assert buckets.take("one") > 0.0
    clock.now += 0.011
    assert buckets.take("one") == 0.0


def test_names_do_not_share_and_a_burst_is_no_larger_after_a_long_rest() -> None:
    clock = Clock()
    buckets = Buckets(per_second=1.0, burst=2.0, clock=clock)
    clock.now = 1e6
    assert [buckets.take("one") == 0.0 for _ in range(3)] == [True, True, False]
    clock.now = 2e6
    assert [buckets.take("one") == 0.0 for _ in range(3)] == [True, True, False]
    assert buckets.take("two") == 0.0


def test_a_debt_is_paid_first() -> None:
    clock = Clock()
    buckets = Buckets(per_second=1.0, burst=2.0, clock=clock)
    buckets.add("one", -5)
    assert buckets.take("one") == pytest.approx(4.0)
    clock.now += 4.0
    assert buckets.take("one") == 0.0


def test_a_flood_of_names_is_forgotten_and_he_who_asks_often_is_not() -> None:
    clock = Clock()
    buckets = Buckets(per_second=1e-6, burst=1.0, clock=clock)
    assert buckets.take("often") == 0.0
    for number in range(50_000):
        buckets.take(str(number))
        if number % 1000 == 0:
            assert buckets.take("often") > 0.0
    assert len(buckets._buckets) == 10_000


def test_a_quota_names_the_client_and_counts_the_images_of_a_batch() -> None:
    quotas = Quotas(4.0)
    for _ in range(4):
        quotas.charge("line-1")
    with pytest.raises(QuotaExceeded, match="line-1") as caught:
        quotas.charge("line-1")
    assert 0 < caught.value.wait_seconds <= 0.25
    quotas.charge("line-2")
    quotas.charge_more("line-2", 9)
    with pytest.raises(QuotaExceeded) as caught:
        quotas.charge("line-2")
    assert caught.value.wait_seconds > 1.5


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.7", "::ffff:10.0.0.7"),
        ("unknown", "unknown"),
    ],
)
def test_who_counts_as_one_client(address: str, group: str) -> None:
    assert neighbourhood(address) == group
