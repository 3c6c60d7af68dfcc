"""Negative controls: runners that break one promise each, and the test of the suite that must catch it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_conformance as suite
from numpy.typing import NDArray
from test_conformance import Case, FakeRunner

Array = NDArray[Any]


class _SharesItsOutput(FakeRunner):
    _buffer: Array | None = None

    def _run(self, tensor: Array) -> Array:
        if self._buffer is None:
            self._buffer = np.empty_like(tensor)
        self._buffer[...] = super()._run(tensor)
        return self._buffer


class _WritesIntoItsInput(FakeRunner):
    def _run(self, tensor: Array) -> Array:
        result = super()._run(tensor)
        tensor.flags.writeable = True
        tensor[...] = 0
        return result


class _SwapsRedAndBlue(FakeRunner):
    def _run(self, tensor: Array) -> Array:
        return super()._run(tensor)[:, ::-1]


class _IsRandom(FakeRunner):
    _rng = np.random.default_rng(0)

    def _run(self, tensor: Array) -> Array:
        return super()._run(tensor) + self._rng.normal(0, 1e-7, tensor.shape).astype(np.float32)


class _ReadsMemoryNotStrides(FakeRunner):
    def _run(self, tensor: Array) -> Array:
        base = tensor if tensor.base is None else np.asarray(tensor.base)
        return super()._run(base.reshape(-1)[: tensor.size].reshape(tensor.shape).copy())


class _TakesAnything(FakeRunner):
    def run(self, tensor: Array) -> Array:
        return tensor


class _RunsAfterClose(FakeRunner):
    def close(self) -> None:
        pass


class _GivesHalfPrecision(FakeRunner):
    def _run(self, tensor: Array) -> Array:
        return super()._run(tensor).astype(np.float16).astype(np.float32)


def _case(kind: type[FakeRunner]) -> Case:
    return Case(kind.__name__, lambda *_: kind(None), lambda t, _: suite._convolve(t), 1e-6)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (_SharesItsOutput, suite.test_results_belong_to_the_caller),
        (_WritesIntoItsInput, suite.test_the_input_is_left_alone),
        (_IsRandom, suite.test_the_same_input_gives_the_same_bits),
        (_ReadsMemoryNotStrides, suite.test_inputs_need_not_be_contiguous),
        (_TakesAnything, suite.test_wrong_inputs_are_refused),
    ],
)
def test_a_broken_promise_is_caught(kind: type[FakeRunner], test: Callable[[Case, FakeRunner], None]) -> None:
    test(_case(FakeRunner), FakeRunner(None))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(_case(kind), kind(None))


@pytest.mark.parametrize("kind", [_SwapsRedAndBlue, _GivesHalfPrecision])
def test_a_wrong_result_is_caught(kind: type[FakeRunner], checkpoint) -> None:
    with pytest.raises(AssertionError):
        suite.test_agrees_with_the_torch_reference(_case(kind), kind(None), checkpoint)


def test_running_after_close_is_caught(tmp_path, checkpoint) -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        suite.test_closing(_case(_RunsAfterClose), checkpoint, tmp_path)


checkpoint = suite.checkpoint
