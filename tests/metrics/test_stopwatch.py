"""The latency protocol under a clock that only the candidates move: nothing here depends on real time."""

import gc
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from unblur.core.errors import InputError
from unblur.metrics.stopwatch import Protocol, Session, Timed, measure, time_call


class Clock:
    """Time stands still except while a candidate works or the protocol sleeps."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def work(self, ms: float) -> None:
        self.now_ns += round(ms * 1e6)

    def sleep(self, seconds: float) -> None:
        self.work(seconds * 1000)


def _steady(clock: Clock, ms: float) -> Callable[[int], None]:
    def call(number: int) -> None:
        clock.work(ms)

    return call


def _measure(clock: Clock, candidates: list[Timed], **settings: object) -> Session:
    return measure(candidates, Protocol(**settings), clock_ns=clock, sleep=clock.sleep)  # type: ignore[arg-type]


def test_a_sample_is_exactly_the_call() -> None:
    clock = Clock()
    session = _measure(clock, [Timed("a", _steady(clock, 3)), Timed("b", _steady(clock, 7))], rounds=4, settle_ms=100)
    assert session.latencies_ms("a") == [3.0] * 4
    assert session.latencies_ms("b") == [7.0] * 4


def test_rounds_are_interleaved_and_their_order_changes() -> None:
    clock = Clock()
    candidates = [Timed(name, _steady(clock, 1)) for name in "abc"]
    session = _measure(clock, candidates, rounds=30)
    measured = [s for s in session.samples if not s.warmup]
    orders = Counter()
    for start in range(0, len(measured), 3):
        turn = measured[start : start + 3]
        assert {s.round for s in turn} == {start // 3}
        assert sorted(s.name for s in turn) == ["a", "b", "c"]
        orders["".join(s.name for s in turn)] += 1
    assert len(orders) == 6
    assert all(s.started_ms < t.started_ms for s, t in pairwise(measured))


def test_same_seed_same_order_another_seed_another() -> None:
    def order(seed: int) -> list[str]:
        clock = Clock()
        session = _measure(clock, [Timed(n, _steady(clock, 1)) for n in "abcd"], rounds=9, seed=seed)
        return [s.name for s in session.samples]

    assert order(5) == order(5)
    assert order(5) != order(6)


def test_a_disturbed_round_disturbs_every_candidate() -> None:
    # The machine is twice as slow in the second half. Measured as blocks, equal candidates would differ by 2.
    clock = Clock()

    def call(number: int) -> None:
        clock.work(10 if number < 5 else 20)

    session = _measure(clock, [Timed("a", call), Timed("b", call)], rounds=10, warmup_rounds_max=1)
    assert session.latencies_ms("a") == session.latencies_ms("b") == [10.0] * 5 + [20.0] * 5


def test_warm_up_goes_on_until_the_samples_are_steady() -> None:
    clock = Clock()
    calls = Counter()

    def cold_for_four(number: int) -> None:
        calls["a"] += 1
        clock.work(100 if calls["a"] <= 4 else 10)

    session = _measure(
        clock, [Timed("a", cold_for_four), Timed("b", _steady(clock, 1))], rounds=2, warmup_rounds_max=20
    )
    # Windows of three: 4..6 | 7..9 is the first pair whose medians are 10 and 10.
    assert session.warmup_rounds == 9
    assert session.stable == {"a": True, "b": True}
    assert session.latencies_ms("a") == [10.0, 10.0]
    assert [s.elapsed_ms for s in session.samples if s.name == "a" and s.warmup] == [100.0] * 4 + [10.0] * 5


def test_warm_up_that_never_settles_ends_and_says_so() -> None:
    clock = Clock()
    calls = Counter()

    def slower_and_slower(number: int) -> None:
        calls["a"] += 1
        clock.work(2.0 ** calls["a"])

    session = _measure(clock, [Timed("a", slower_and_slower)], rounds=1, warmup_rounds_max=8)
    assert session.warmup_rounds == 8
    assert session.stable == {"a": False}


def test_warm_up_takes_no_more_rounds_than_are_timed_but_two_windows() -> None:
    assert Protocol(rounds=20).warmup_limit == 20
    assert Protocol(rounds=2).warmup_limit == 6
    assert Protocol(rounds=2, warmup_rounds_max=1).warmup_limit == 1


def test_warm_up_has_a_limit_in_seconds() -> None:
    clock = Clock()
    session = _measure(clock, [Timed("a", _steady(clock, 40_000))], rounds=1, warmup_s_max=60, settle_ms=0)
    assert session.warmup_rounds == 2
    assert session.stable == {"a": False}


def test_synchronize_is_inside_the_sample_and_before_it() -> None:
    clock = Clock()
    queue = {"ms": 50.0}  # work left in the device's queue by somebody else

    def enqueue(number: int) -> None:
        clock.work(0.1)
        queue["ms"] += 8.0

    def wait() -> None:
        clock.work(queue["ms"])
        queue["ms"] = 0.0

    session = _measure(clock, [Timed("gpu", enqueue, wait)], rounds=3, settle_ms=0)
    assert session.latencies_ms("gpu") == pytest.approx([8.1] * 3)


def test_what_is_prepared_and_finished_is_beside_the_sample_and_within_the_whole() -> None:
    clock = Clock()
    seen: list[object] = []

    def prepare(number: int) -> str:
        clock.work(2)
        return f"frame {number}"

    def call(given: str) -> str:
        clock.work(30)
        return f"{given}, restored"

    def finish(result: str) -> None:
        clock.work(5)
        seen.append(result)

    def refuse(result: str) -> None:
        raise InputError(f"{result}: no picture")

    def timed(name: str, finish: Callable[[str], None]) -> Timed:
        return Timed(
            name, lambda number: time_call(call, number, None, clock, prepare=prepare, finish=finish), away=True
        )

    candidates = [timed("a", finish), Timed("b", _steady(clock, 7)), timed("refused", refuse)]
    session = _measure(clock, candidates, rounds=2, warmup_rounds_max=1)
    assert session.latencies_ms("a") == session.latencies_ms("refused") == [30.0, 30.0]
    assert session.wholes_ms("a") == [37.0, 37.0]
    assert session.wholes_ms("b") == session.wholes_ms("refused") == []
    assert seen[-1] == "frame 1, restored"


def test_each_call_gets_the_number_of_its_round() -> None:
    clock = Clock()
    seen: list[int] = []

    def call(number: int) -> None:
        seen.append(number)
        clock.work(1)

    session = _measure(clock, [Timed("a", call)], rounds=4)
    assert seen[session.warmup_rounds :] == [0, 1, 2, 3]


def test_the_collector_is_off_within_a_sample_and_restored() -> None:
    clock = Clock()
    states: list[bool] = []

    def fail(number: int) -> None:
        states.append(gc.isenabled())
        raise ValueError("from the candidate")

    assert gc.isenabled()
    with pytest.raises(ValueError, match="from the candidate"):
        _measure(clock, [Timed("a", fail)])
    assert states == [False]
    assert gc.isenabled()


def test_candidates_need_names_of_their_own() -> None:
    with pytest.raises(InputError, match="different names"):
        measure([Timed("a", print), Timed("a", print)])
    with pytest.raises(InputError, match="one or more"):
        measure([])


@pytest.mark.parametrize("setting", [{"rounds": 0}, {"warmup_window": 0}, {"settle_ms": -1.0}])
def test_senseless_settings_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(setting))):
        Protocol(**setting)  # type: ignore[arg-type]
