"""Prices as the command line gives them."""

from __future__ import annotations

import pytest

from curate.errors import UsageError
from curate.estimate import Prices
from curate.resources import Resources


def test_price_is_for_the_resources_of_a_worker() -> None:
    prices = Prices.parse(["gpu=3.6/h", "cpu=0.06/min", "memory_gb=0.001/s", "licence=24/d"], ["licence"])
    asked = Resources(cpus=2, gpus=0.5, memory="4GB", custom={"licence": 1.0})
    assert prices.of(asked) == pytest.approx(2 * 0.001 + 0.5 * 0.001 + 4 * 0.001 + 24 / 86400)
    assert prices.of(Resources(cpus=1)) == pytest.approx(0.001)


def test_price_without_a_time_is_of_an_hour() -> None:
    assert Prices.parse(["gpu=7.2"]).of(Resources(gpus=1)) == pytest.approx(0.002)
    assert not Prices.parse([])


@pytest.mark.parametrize("option", ["gpu", "gpu=", "gpu=x/h", "gpu=1/week", "=2/h", "gpu=-1/h", "gpu=1e999/h"])
def test_price_that_is_none_is_refused_with_an_example(option: str) -> None:
    with pytest.raises(UsageError, match=r"write NAME=AMOUNT/h, such as gpu=2.5/h"):
        Prices.parse([option])


def test_price_of_an_unknown_resource_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown resource 'gpus': did you mean 'gpu'"):
        Prices.parse(["gpus=2/h"])
