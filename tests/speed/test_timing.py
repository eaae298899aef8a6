"""Things are measured in turn, the first round does not count."""

import pytest

from nextscale.speed.timing import Timing, in_turn


def test_rounds() -> None:
    order: list[str] = []

    def named(name: str):
        def run() -> dict[str, float]:
            order.append(name)
            return {"seconds": float(len(order))}

        return run

    advanced: list[int] = []
    found = in_turn({"a": named("a"), "b": named("b")}, 2, advanced.append)
    assert order == ["a", "b"] * 3
    assert len(advanced) == 6
    assert found["a"]["seconds"] == Timing((3.0, 5.0))
    assert found["b"]["seconds"].median == 5.0
    assert found["b"]["seconds"].spread == pytest.approx(2 / 5)
