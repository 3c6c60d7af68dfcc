"""The inspector's JSON: a recorded TensorRT 10 engine, and constructed lists of 11.x and TensorRT for RTX."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mutants import byte_mutants, json_mutants

from unblur.core.errors import InputError, UnblurError
from unblur.engines.xray.audit import computes_in
from unblur.engines.xray.gpus import find_gpu
from unblur.engines.xray.inspector import FORM_10, FORM_11, parse_inspector
from unblur.engines.xray.kernel_kinds import kind_of
from unblur.engines.xray.kernels import parse_builder_log
from unblur.engines.xray.macs import kernel_macs
from unblur.engines.xray.profile_times import measure_against, parse_profile
from unblur.engines.xray.roofline import roofline
from unblur.engines.xray.text import describe_measured
from unblur.graphs.facts import GraphFacts

LOGS = Path(__file__).parent / "logs"
RECORDED = (LOGS / "trt-10-layers.json").read_text()
PROFILE = (LOGS / "trt-10-profile.json").read_text()
FACTS = GraphFacts((), {}, {}, frozenset({"input", "output"}), "fp16", 224, 224)


def test_a_recorded_list_of_tensorrt_10() -> None:
    found = parse_inspector(RECORDED)
    assert found.form == FORM_10
    assert found.edges == ("input", "output")
    kernels = found.xray.kernels
    assert [kernel.kind for kernel in kernels] == [
        "Reformat", "correlation", "CaskPooling", "shape_call", "kgen", "gemm",
    ]  # fmt: skip
    convolution = kernels[1]
    assert convolution.nodes == ("/features/features.0/Conv", "/features/features.1/Relu")
    assert [t.shape for t in convolution.constants] == [(64, 3, 11, 11), (1, 64, 1, 1)]
    assert convolution.bytes_moved == 2 * (3 * 224 * 224 + 64 * 55 * 55 + 23232 + 64)
    assert kernel_macs(convolution) == 55 * 55 * 23232
    assert kernel_macs(kernels[5]) == 9216 * 4096
    assert {computes_in(kernel) for kernel in kernels[:3]} == {"Half"}
    assert kernels[3].bytes_moved == 0
    assert kind_of(kernels[0], FACTS) == "copy"
    assert kind_of(convolution, FACTS) == "convolution"
    assert set(found.unread) >= {"Stride", "Dilation", "PoolingType"}
    assert found.xray.activation_bytes == 0


def test_views_and_stored_values_move_nothing() -> None:
    data = json.loads(RECORDED)
    for kind in ("NoOp", "Constant"):
        data["Layers"][0]["LayerType"] = kind
        found = parse_inspector(json.dumps(data))
        assert len(found.xray.kernels) == 5
        assert found.names[0] == data["Layers"][0]["Name"]


def layers_11(**changes: Any) -> str:
    """A convolution as 11.x documents it: format and type apart, objects for the network's tensors."""

    def tensor(name: str, dims: list[int]) -> dict[str, Any]:
        return {"Name": name, "Location": "Device", "Dimensions": dims, "Format": "Row major linear format",
                "Datatype": "Half"}  # fmt: skip

    layer = {
        "Name": "up", "LayerType": "CaskDeconvolution", "Inputs": [tensor("x", [1, 8, 4, 4])],
        "Outputs": [tensor("y", [1, 6, 8, 8])], "ParameterType": "Deconvolution", "Kernel": [4, 4], "Stride": [2, 2],
        "OutMaps": 6, "Groups": 2, "Weights": {"Type": "Half", "Count": 384}, "Bias": {"Type": "Half", "Count": 0},
        "TacticName": "t", "StreamId": 0, "Metadata": "[ONNX Layer: up/ConvTranspose]",
    }  # fmt: skip
    edge = {"Name": "x", "IOMode": "Input", "DataType": "Half", "Dimensions": [1, 8, 4, 4], "Location": "Device",
            "IsShapeInferenceIO": False, "ProfileInfo": []}  # fmt: skip
    data = {"Layers": [layer | changes], "I/O Tensors": [edge, {**edge, "Name": "y"}], "Engine Metadata": {}}
    return json.dumps(data)


def test_a_list_of_tensorrt_11_constructed_from_its_documented_fields() -> None:
    found = parse_inspector(layers_11())
    assert found.form == FORM_11
    assert found.edges == ("x", "y")
    (kernel,) = found.xray.kernels
    assert kernel.kind == "deconv"
    assert [t.shape for t in kernel.constants] == [(8, 3, 4, 4)]
    assert kernel_macs(kernel) == 8 * 4 * 4 * 3 * 16
    assert kernel.bytes_moved == 2 * (8 * 16 + 6 * 64 + 384)


def json_of_log(text: str) -> str:
    """A recorded log of the builder with its own fields and values, as JSON."""
    pattern = re.compile(
        r"Name: (.*?), LayerType: (.*?), Inputs: \[(.*?)\], Constants: \[(.*?)\], Outputs: \[(.*?)\], "
        r"TacticName: (.*?), StreamId: (\d+), Metadata: (.*)$"
    )
    layers = []
    for line in text.partition("\nI/O Tensors:")[0].splitlines()[1:]:
        if match := pattern.match(line):
            name, kind, *groups, tactic, stream, metadata = match.groups()
            tensors = [
                [
                    {"Name": n, "Dimensions": json.loads(f"[{d}]"), "Strides": json.loads(f"[{s}]"),
                     "StrideOrder": json.loads(f"[{o}]"), "Datatype": t, "Format": f.strip()}
                    for n, d, s, o, t, f in re.findall(
                        r"\{ Name: (.*?), Dimensions: \[(.*?)\], Strides: \[(.*?)\], StrideOrder: \[(.*?)\], "
                        r"Datatype: (\w+), Format: (.*?)\}", group)
                ]
                for group in groups
            ]  # fmt: skip
            layers.append(
                {"Name": name, "LayerType": kind, "Inputs": tensors[0], "Constants": tensors[1], "Outputs": tensors[2],
                 "TacticName": tactic, "StreamId": int(stream), "Metadata": metadata}
            )  # fmt: skip
    return json.dumps({"Layers": layers, "I/O Tensors": [{"Name": "input"}, {"Name": "restored"}]})


@pytest.mark.parametrize("name", ["layers", "int8-sm75", "int8-per-channel-sm89", "fp8-sm89"])
def test_a_list_of_tensorrt_for_rtx_constructed_from_its_recorded_log_gives_the_logs_kernels(name: str) -> None:
    text = (LOGS / f"rtx-1.7-{name}.txt").read_text()
    listed = parse_inspector(json_of_log(text)).xray.kernels
    assert listed == parse_builder_log([text]).kernels
    assert len(listed) >= 3


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (layers_11(Region=[{"Name": "z"}]), UnblurError, "field 'Region' of layer 'up' is not known"),
        (layers_11(Extra={"Type": "Half"}), UnblurError, "field 'Extra'"),
        (layers_11(Inputs=[{"Name": "x", "Dimensions": [1], "Datatype": "Quarter"}]), UnblurError, "type 'Quarter'"),
        (layers_11(Inputs=[{"Name": "x", "Dimensions": [1], "Datatype": "Half", "Shard": 2}]), UnblurError, "'Shard'"),
        (layers_11(Weights={"Type": "Half", "Count": 383}), UnblurError, "has 383 values"),
        (layers_11(Inputs=[{"Name": "x", "Dimensions": [1], "Format/Datatype": "Half"}]), UnblurError, "Datatype"),
        (RECORDED.replace('Datatype": "Half"', 'Datatype": "Quarter"', 1), UnblurError, "one known type"),
        (RECORDED.replace("Row major linear FP16", "FP32 or FP16"), UnblurError, "one known type"),
        (RECORDED.replace("Row major linear FP16 format", "N/A due to dynamic shapes"), InputError, "--shapes"),
        (RECORDED.replace('"LayerType": "gemm",', ""), UnblurError, "has no LayerType"),
        (RECORDED.replace('"Bindings"', '"Regions": [], "Bindings"'), UnblurError, "'Regions'"),
        ('{"Layers": ["a", "b"], "Bindings": []}', InputError, "profilingVerbosity=detailed"),
        (RECORDED[:-20], InputError, "not whole JSON"),
        ("[]", InputError, "no `Layers`"),
        ("[" * 100_000, InputError, "nested too deep"),
        ("9" * 5000, InputError, "not whole JSON"),
        ('{"Layers": 7, "Bindings": []}', InputError, "not understood"),
        ('{"Layers": [7], "Bindings": []}', InputError, "not understood"),
        (layers_11(Inputs=[{"Name": "x", "Dimensions": ["wide"], "Datatype": "Half"}]), InputError, "not understood"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_never_passed_over(text: str, error: type[UnblurError], words: str) -> None:
    with pytest.raises(error) as caught:
        parse_inspector(text)
    assert words in str(caught.value)


def test_measured_times_beside_the_bounds() -> None:
    kernels = parse_inspector(RECORDED).xray.kernels
    line = roofline(kernels, find_gpu("RTX 3090"))
    measured = measure_against(kernels, line, parse_profile(PROFILE))
    assert measured.ms == pytest.approx(0.00933934 + 0.023456 + 0.00512855 + 0.00204809 + 0.00409618 + 0.24579)
    assert measured.bound_ms == pytest.approx(line.ms)
    gemm = measured.kernels[5]
    assert gemm.bound.ms == pytest.approx(1e3 * gemm.kernel.bytes_moved / 936e9)
    assert gemm.times_bound == pytest.approx(0.24579 / gemm.bound.ms)
    assert measured.kernels[3].times_bound is None
    assert measured.below == ()
    text = describe_measured(measured)
    assert f"{measured.ms:.3f} ms in 6 kernels" in text
    assert text.index("classifier.1/Gemm") < text.index("features.0/Conv")
    assert measured.to_json()["each_kernel"][1]["measured_ms"] == 0.023456


def test_layers_beside_the_kernels_and_kernels_below_their_bound_are_told() -> None:
    kernels = parse_inspector(RECORDED).xray.kernels
    line = roofline(kernels, find_gpu("RTX 3090"))
    entries = json.loads(PROFILE)
    entries.append({"name": "wait", "timeMs": 13897.0})
    entries[1]["averageMs"] = 1e-9
    measured = measure_against(kernels, line, parse_profile(json.dumps(entries)))
    assert measured.besides_ms == 1.0
    text = describe_measured(measured)
    assert "1 layers that are no kernels took 1.000 ms besides" in text
    assert "1 kernels are faster than their bound, such as Reformatting CopyNode" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "is no profile"),
        (PROFILE[:-5], "not whole JSON"),
        ('[{"count": 3}]', "1 counts and 0 layers"),
        ('[{"name": "a", "timeMs": 1}]', "neither averageMs nor timeMs with a count"),
        ('[{"name": "a", "averageMs": -1}]', "is -1.0 ms"),
        ('[{"name": "a", "averageMs": 1, "power": 2}]', "not understood"),
        ('[{"name": "a", "averageMs": 1}]', "no time for 6 of 6 kernels, such as 'Reformatting"),
    ],
)
def test_a_profile_of_something_else_is_refused(text: str, words: str) -> None:
    kernels = parse_inspector(RECORDED).xray.kernels
    with pytest.raises(InputError) as caught:
        measure_against(kernels, roofline(kernels, find_gpu("RTX 3090")), parse_profile(text))
    assert words in str(caught.value)


def test_every_damaged_listing_and_profile_is_taken_or_refused() -> None:
    profile = [{"count": 10}, {"name": "a", "timeMs": 1.5, "averageMs": 0.15, "percentage": 100.0}]
    for parse, good in ((parse_inspector, json.loads(layers_11())), (parse_profile, profile)):
        texts = [json.dumps(mutant).encode() for mutant in json_mutants(good, 400)]
        texts += byte_mutants(json.dumps(good).encode(), 150)
        refused = 0
        for text in texts:
            try:
                parse(text)
            except UnblurError:
                refused += 1
        assert 0 < refused < len(texts)
