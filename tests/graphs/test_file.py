"""Graph files that cannot be run: each is refused with a sentence and the cure, before a backend sees it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from tiny_graph import BYTES, FLOAT, write_graph

from unblur.core.artefacts import file_digest
from unblur.core.errors import InputError
from unblur.graphs.file import read_graph
from unblur.images.contract import METADATA_KEY
from unblur.images.signature import Signature


@pytest.mark.parametrize("contract", [FLOAT, BYTES], ids=["float", "uint8"])
@pytest.mark.parametrize("size", [None, (12, 18)], ids=["dynamic", "fixed"])
def test_contract_and_size_come_from_the_file(tmp_path: Path, contract, size) -> None:
    path = write_graph(tmp_path / "graph.onnx", size, contract)
    graph = read_graph(path)
    assert graph.signature == Signature(contract, *(size or (None, None)))
    assert graph.digest == file_digest(path)
    assert graph.precision == "f32"


def test_weights_in_another_file_are_in_the_digest(tmp_path: Path) -> None:
    """As PyTorch's exporter leaves them: a network trained on is the same graph file beside other data."""
    path = write_graph(tmp_path / "graph.onnx", (12, 18))
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0)
    before, data = read_graph(path).digest, bytearray((tmp_path / "weights").read_bytes())
    assert read_graph(path).digest == before
    data[0] ^= 1
    (tmp_path / "weights").write_bytes(data)
    assert read_graph(path).digest != before


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist; export it"):
        read_graph(tmp_path / "none.onnx")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        read_graph(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_random_bytes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "random.onnx"
    path.write_bytes(np.random.default_rng(size).bytes(size))
    with pytest.raises(InputError, match="ONNX graph"):
        read_graph(path)


def test_truncated_anywhere(tmp_path: Path) -> None:
    whole = write_graph(tmp_path / "whole.onnx", (12, 18)).read_bytes()
    path = tmp_path / "part.onnx"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"export it"):
            read_graph(path)


def test_without_metadata(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "foreign.onnx", None, metadata=False)
    with pytest.raises(InputError, match=rf"{METADATA_KEY}.*unblur export"):
        read_graph(path)


def test_contract_of_another_version(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "old.onnx", None)
    model = onnx.load(path)
    helper.set_model_props(model, {METADATA_KEY: '{"colour": "bgr"}'})
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"old\.onnx: Not a pixel contract"):
        read_graph(path)


def test_contract_that_the_graph_does_not_keep(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "liar.onnx", (12, 18))
    model = onnx.load(path)
    helper.set_model_props(model, {METADATA_KEY: BYTES.to_json()})
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"'x' is float32 \[1, 3, 12, 18\], but its pixel contract says"):
        read_graph(path)


def test_more_than_one_output(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "two.onnx", (12, 18))
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 12, 18]))
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"has 2 outputs \(z, y\); say with --output-name"):
        read_graph(path)
