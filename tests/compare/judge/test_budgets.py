"""Budgets as they are written, merged and refused."""

import pytest
from pydantic import ValidationError

from unblur.compare.judge.budgets import Budget, budget_of, check_budgets, parse_budgets
from unblur.core.errors import InputError


def test_flags_become_budgets() -> None:
    budgets = parse_budgets(
        ["fidelity_db_min=60", "onnxruntime:graph.onnx:speedup_min=1.35", "openvino:fidelity_db_min=50"]
    )
    assert budgets == {
        "*": Budget(fidelity_db_min=60),
        "onnxruntime:graph.onnx": Budget(speedup_min=1.35),
        "openvino": Budget(fidelity_db_min=50),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fidelity_db_min", "KEY=VALUE"),
        (":latency_ms_max=3", "KEY=VALUE"),
        ("fidelity_min_db=3", "did you mean 'fidelity_db_min'"),
        ("latency_ms_max=fast", "'fast' is no number"),
        ("latency_ms_max=nan", "finite number"),
        ("latency_ms_max=0", "above 0"),
        ("speedup_min=-1", "above 0"),
    ],
)
def test_flags_that_say_nothing(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_budgets([text])


def test_a_limit_given_twice() -> None:
    with pytest.raises(InputError, match="twice"):
        parse_budgets(["openvino:speedup_min=1", "openvino:speedup_min=2"])


def test_the_shared_budget_is_overridden_key_by_key_and_spares_the_reference() -> None:
    budgets = {
        "*": Budget(fidelity_db_min=60, speedup_min=1.2),
        "a": Budget(speedup_min=2),
        "torch": Budget(latency_ms_max=9),
    }
    assert budget_of("a", budgets, alone=False) == Budget(fidelity_db_min=60, speedup_min=2)
    assert budget_of("b", budgets, alone=False) == budgets["*"]
    assert budget_of("torch", budgets, alone=True) == Budget(latency_ms_max=9)


def test_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'openvino'"):
        check_budgets({"openvno": Budget()}, ["torch", "openvino"], truth=True, latency=True)


def test_unknown_keys_and_senseless_values() -> None:
    with pytest.raises(ValidationError, match="extra"):
        Budget(fidelity=3)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="greater than 0"):
        Budget(latency_ms_max=0)
    for key in Budget.model_fields:
        for value in (float("nan"), float("inf")):
            with pytest.raises(ValidationError, match="finite number"):
                Budget(**{key: value})
