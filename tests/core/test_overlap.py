"""Work ahead: its order, its bounds, its errors, and that nothing is left of it."""

import threading
from itertools import count, islice

import pytest

from unblur.core.overlap import THREAD_NAMES, ahead


def _left() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(THREAD_NAMES)]


def test_results_come_in_the_order_of_their_items() -> None:
    first_may_end = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert first_may_end.wait(30)
        if item == 1:
            first_may_end.set()
        return item * item

    with ahead(range(9), work, workers=2) as squares:
        assert list(squares) == [item * item for item in range(9)]
    assert _left() == []


def test_work_goes_on_beside_the_caller_who_is_in_the_thread_that_draws() -> None:
    """Each of the two waits for the other: one after the other they would never end."""
    second_begun = threading.Event()
    drawn_by = set()

    def items():
        for item in range(3):
            drawn_by.add(threading.current_thread())
            yield item

    def work(item: int) -> int:
        if item == 1:
            second_begun.set()
        return item

    with ahead(items(), work) as results:
        assert next(results) == 0
        assert second_begun.wait(30)  # while the caller holds the first result
    assert drawn_by == {threading.current_thread()}


def test_nothing_is_drawn_that_nobody_takes() -> None:
    drawn = []
    with ahead((drawn.append(k) or k for k in count()), lambda k: k, workers=2) as results:
        assert list(islice(results, 3)) == [0, 1, 2]
    assert drawn == [0, 1, 2, 3, 4]


def test_an_error_comes_in_its_turn_and_leaves_no_thread() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("the third")
        return item

    taken: list[int] = []
    with pytest.raises(ValueError, match="the third"), ahead(range(5), work, workers=3) as results:
        taken.extend(results)
    assert taken == [0, 1]
    assert _left() == []


def test_an_interrupt_in_the_caller_leaves_no_thread() -> None:
    def interrupted(item: int) -> int:
        if item == 3:
            raise KeyboardInterrupt
        return item

    taken: list[int] = []
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), ahead(map(interrupted, range(5)), done.append, workers=2) as results:
        taken.extend(1 for _ in results)
    assert len(taken) == 1
    assert sorted(done) == [0, 1, 2]  # nobody took the last two any more, and yet their work was done
    assert _left() == []
