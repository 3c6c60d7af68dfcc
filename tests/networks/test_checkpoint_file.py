"""Files that are hostile, damaged, or something else under a checkpoint's name: a sentence, at once."""

from __future__ import annotations

import io
import random
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from unblur.core.errors import InputError
from unblur.networks import checkpoint_file, load_checkpoint, save_checkpoint
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.networks.inspection import contents_of

SPEC = BANetSpec(depth=1, stem_width=2, width=4, fuse_width=3)
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def network() -> BANet:
    torch.manual_seed(2)
    return BANet(SPEC).eval()


@pytest.fixture
def state(network: BANet) -> State:
    return dict(network.state_dict())


def refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    for word in (path.name, *words):
        assert word in str(caught.value)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("width", [4096, 1 << 20])
def test_a_view_that_repeats_one_number_is_not_multiplied_out(
    tmp_path: Path, state: State, width: int, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of kilobytes that states gigabytes."""
    path = tmp_path / "weights.pth"
    state["BAM_1.input_conv.weight"] = torch.zeros(1).expand(width, width, 3, 3)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr("unblur.networks.checkpoints.recognise", lambda _: pytest.fail("looked at before it is held"))
    refused(path, "BAM_1.input_conv.weight", "but the file has", "clone()")


def test_many_views_of_one_storage_state_no_more_than_the_file(tmp_path: Path, state: State) -> None:
    path, all_numbers = tmp_path / "weights.pth", torch.zeros(20_000)
    torch.save({key: all_numbers[: value.numel()].view(value.shape) for key, value in state.items()}, path)
    load_checkpoint(path)  # shared, but the file has as much
    torch.save({f"w{k}": all_numbers for k in range(50)}, path)
    refused(path, "w1 its tensors state")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested torch.strided"),
        (lambda: torch.eye(3).to_sparse(), "torch.sparse_coo"),
        (lambda: torch.zeros(3, device="meta"), "on meta"),
    ],
)
def test_tensors_that_are_not_dense(
    tmp_path: Path, state: State, value: Callable[[], torch.Tensor], words: str
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**state, "en_layer1.0.bias": value()}, path)
    refused(path, words)


def test_a_number_of_5000_digits_in_a_key(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**state, f"BAM_{'9' * 5000}.input_conv.weight": torch.zeros(1)}, path)
    refused(path, "No known network")


def test_a_key_with_an_escape_sequence_is_not_sent_to_the_terminal(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({**state, "\x1b]0;stolen\x07": torch.zeros(1)}, path)
    refused(path, r"'\x1b]0;stolen\x07'")


def test_thousands_of_blocks_are_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, deepest = tmp_path / "deep.safetensors", 0
    save_file({f"BAM_{k}.input_conv.weight": torch.zeros(1) for k in range(5000)}, path)
    genuine = BANet.__init__

    def measure(self: BANet, spec: BANetSpec) -> None:
        nonlocal deepest
        deepest = max(deepest, spec.depth)
        genuine(self, spec)

    monkeypatch.setattr(BANet, "__init__", measure)
    refused(path, "these 5000 tensors")
    assert 0 < deepest <= 64


class Asks:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def test_a_pickle_is_given_no_memory_because_it_asks(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"w": torch.zeros(1), "more": Asks(bytearray, 1 << 40)}, path)
    refused(path, "asks for a bytearray")


@pytest.mark.parametrize("legacy", [False, True])
def test_what_training_scripts_leave_beside_the_weights_is_told_and_not_made(
    tmp_path: Path, state: State, legacy: bool
) -> None:
    path, mark = tmp_path / "last.pth", tmp_path / "mark"
    beside = {
        "best": np.float64(32.4), "curve": np.arange(3.0), "args": Namespace(lr=1e-4), "folder": tmp_path,
        "more": Asks(np.save, str(mark), 1),
    }  # fmt: skip
    torch.save({"state_dict": state, **beside}, path, _use_new_zipfile_serialization=not legacy)
    torch.load(path, weights_only=False)
    mark.with_suffix(".npy").unlink()  # it is dangerous, or this shows nothing
    taken = load_checkpoint(path).network.state_dict()
    assert all(torch.equal(taken[key], value) for key, value in state.items())
    assert not mark.with_suffix(".npy").exists()
    told = contents_of(path).extras
    assert told.keys() == beside.keys()
    assert (told["args"], told["best"].rpartition(".")[2]) == ("argparse.Namespace", "scalar")
    torch.save({**state, "best": np.float64(32.4)}, path)
    refused(path, "entry 'best' is numpy", "named tensors only")


def test_a_graph_in_the_place_of_a_checkpoint_is_told_where_it_goes(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"\x08\x0a")
    refused(tmp_path / "mine.onnx", "is a graph, not a checkpoint", "--engine", "--onnx", "--contract")


def test_a_pickle_of_endless_things_is_left_after_a_while(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    load_checkpoint(path)
    monkeypatch.setattr(checkpoint_file, "MOST_OPCODES", 200)
    refused(path, "more than 200 things")


def test_tuples_in_each_other_as_a_key_do_not_end_the_process(tmp_path: Path) -> None:
    pickled = b"\x80\x02})" + b"\x85" * 900_000 + b"K\x01s."
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pth")
    records = repacked((tmp_path / "weights.pth").read_bytes(), change=lambda _: pickled)
    (tmp_path / "weights.pth").write_bytes(records)
    refused(tmp_path / "weights.pth", "50,000 tuples")


def test_a_file_beyond_any_network_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pth"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    refused(path, "has 4398 GB")


def repacked(
    data: bytes,
    compression: int = zipfile.ZIP_STORED,
    more: dict[str, bytes] | None = None,
    change: Callable[[bytes], bytes] = lambda pickled: pickled,
) -> bytes:
    """The records of a zip archive in another one, with right checksums. `change`: of the pickle."""
    new = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(new, "w", compression) as archive:
        for record in old.infolist():
            content = old.read(record)
            archive.writestr(record.filename, change(content) if record.filename.endswith(".pkl") else content)
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return new.getvalue()


def test_compressed_and_doubled_records_are_refused(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(repacked(whole))
    load_checkpoint(path)
    path.write_bytes(repacked(whole, zipfile.ZIP_DEFLATED))
    refused(path, "compressed")
    with pytest.warns(UserWarning, match="Duplicate name"):
        path.write_bytes(repacked(whole, more={"weights/data/0": b"other"}))
    refused(path, "there twice")


def test_a_torchscript_archive_is_named(tmp_path: Path, state: State) -> None:
    """With the records that torch.jit.save adds."""
    path = tmp_path / "traced.pt"
    torch.save(state, path)
    program = {"traced/constants.pkl": b"\x80\x02).", "traced/code/__torch__.py": b"class Program(Module):"}
    path.write_bytes(repacked(path.read_bytes(), more=program))
    refused(path, "TorchScript archive", "state_dict()")


def test_another_zip_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "arrays.pth"
    with path.open("wb") as file:
        np.savez(file, one=np.zeros(2))
    refused(path, "not one of torch.save", "one.npy", "unpack it")


def test_each_format_under_the_suffix_of_the_other(tmp_path: Path, state: State) -> None:
    save_file(state, tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth", "is a safetensors file under another suffix", "rename it")
    torch.save(state, tmp_path / "weights.safetensors")
    refused(tmp_path / "weights.safetensors", "as torch.save writes", "rename it")


def test_one_flipped_bit_of_a_weight_is_not_taken(tmp_path: Path, network: BANet) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    save_checkpoint(network, tmp_path / "weights.safetensors")
    for path, words in ((tmp_path / "weights.pth", "data/0"), (tmp_path / "weights.safetensors", "checksum")):
        whole = path.read_bytes()
        first = network.state_dict()["en_layer1.0.weight"].numpy().tobytes()
        place = whole.index(first) + 5
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(path, words, "copy or download it again")


def test_safetensors_of_others_need_no_checksum(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(state, path, {"format": "pt"})
    load_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damage_is_refused_or_does_nothing(tmp_path: Path, network: BANet, suffix: str) -> None:
    """Bytes changed, cut out and put in, anywhere: the weights as they were, or an InputError."""
    path = tmp_path / f"weights{suffix}"
    torch.save(network.state_dict(), path) if suffix == ".pth" else save_checkpoint(network, path)
    whole, expected, dice = path.read_bytes(), network.state_dict(), random.Random(5)
    # Half of the damage where a file is parsed: its ends.
    edges = [*range(3000), *range(len(whole) - 3000, len(whole))]
    refusals = 0
    for k in range(240):
        damaged, place = bytearray(whole), dice.choice(edges) if k % 2 else dice.randrange(len(whole))
        match dice.randrange(4):
            case 0:
                damaged[place] ^= 1 << dice.randrange(8)
            case 1:
                damaged[place : place + 4] = dice.randbytes(4)
            case 2:
                del damaged[place : place + dice.choice([1, 2, 64])]
            case _:
                damaged[place:place] = dice.randbytes(dice.choice([1, 8]))
        path.write_bytes(damaged)
        try:
            found = load_checkpoint(path).network.state_dict()
        except InputError:
            refusals += 1
            continue
        assert all(torch.equal(found[key], expected[key]) for key in expected), f"damage {k} was taken"
    assert refusals > 120


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_a_forged_pickle_never_escapes_as_another_error(tmp_path: Path, state: State) -> None:
    """With right checksums: what is wrong is inside."""
    path, dice, outcomes = tmp_path / "weights.pth", random.Random(7), set()
    torch.save({"state_dict": state, "lr": 1e-3}, path)
    whole = path.read_bytes()
    opcodes = [b"(", b".", b"0", b"2", b"\x85", b"]", b"}", b"R", b"Q", b"b", b"s", b"u", b"N", b"J\xff\xff\xff\x7f"]

    def forge(pickled: bytes) -> bytes:
        place = dice.randrange(len(pickled))
        instead = dice.choice([dice.choice(opcodes), dice.randbytes(1)])
        return pickled[:place] + instead + pickled[place + dice.choice([0, 1, 2]) :]

    for _ in range(250):
        path.write_bytes(repacked(whole, change=forge))
        try:
            load_checkpoint(path)
            outcomes.add("loaded")
        except InputError:
            outcomes.add("refused")
    assert outcomes == {"loaded", "refused"}


def test_damage_to_the_old_format_never_escapes_as_another_error(tmp_path: Path, state: State) -> None:
    """It has no checksum: what is damaged in its numbers cannot be told."""
    path, dice, outcomes = tmp_path / "weights.pth", random.Random(6), set()
    torch.save(state, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            damaged[dice.randrange(3000)] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            load_checkpoint(path)
            outcomes.add("loaded")
        except InputError:
            outcomes.add("refused")
    assert "refused" in outcomes
