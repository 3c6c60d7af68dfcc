"""Loading: every wrapper and suffix a checkpoint comes in, and every bad file as one sentence with the cure."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_family import FOREIGN, foreign
from pixels import BGR
from safetensors.torch import save, save_file

from unblur.core.artefacts import file_digest
from unblur.core.errors import InputError
from unblur.networks import load_checkpoint, load_network, save_checkpoint
from unblur.networks.banet.family import BANET
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.networks.checkpoints import AVERAGED, WRAPPERS
from unblur.networks.registry import recognise, registered

SPEC = BANetSpec(depth=2, stem_width=3, width=4, fuse_width=5)
State = dict[str, torch.Tensor]


@pytest.fixture
def network() -> BANet:
    torch.manual_seed(11)
    return BANet(SPEC).eval()


@pytest.fixture
def state(network: BANet) -> State:
    return network.state_dict()


def refused(path: Path, *words: str) -> str:
    """The message of the InputError that loading gives; it names the file and every word."""
    with pytest.raises(InputError) as caught:
        load_network(path)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    for word in (str(path), *words):
        assert word in message
    assert "Traceback" not in message
    return message


def same(loaded: torch.nn.Module, expected: State) -> bool:
    found = loaded.state_dict()
    return list(found) == list(expected) and all(torch.equal(found[k], expected[k]) for k in expected)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".PTH", ".SafeTensors"])
def test_every_suffix(tmp_path: Path, state: State, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix.lower() == ".safetensors" else torch.save(state, path)
    loaded = load_network(str(path))
    assert same(loaded, state)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


WRAPPED: dict[str, Callable[[State], Any]] = {
    "module.": lambda s: {f"module.{k}": v for k, v in s.items()},
    "model_state": lambda s: {"epoch": 3, "model_state": s, "optimizer_state": {"lr": 1e-4}, "scheduler_state": {}},
    "state_dict": lambda s: {"state_dict": s},
    "params": lambda s: {"params": s},
    "params_ema": lambda s: {"params": {k: v + 1 for k, v in s.items()}, "params_ema": s},
    "model_state and module.": lambda s: {"model_state": {f"module.{k}": v for k, v in s.items()}},
    "model": lambda s: {"model": s, "epoch": 1},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}},
    "generator": lambda s: {"generator": s, "discriminator": {"w": torch.zeros(2)}},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "compiled in DataParallel": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    "Lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "global_step": 7},
    "Lightning, as self.net": lambda s: {"state_dict": {f"net.{k}": v for k, v in s.items()}},
    "AveragedModel": lambda s: {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in s.items()}},
    "params_ema in params": lambda s: {"params": {"params_ema": s, "params": moved(s)}},
    "ema that is a setting": lambda s: {"ema": 0.999, "state_dict": s},
    "no ema yet": lambda s: {"ema": None, "model_ema": {}, "model": s},
}


def moved(state: State) -> State:
    """Other weights of the same network."""
    return {key: value + 1 for key, value in state.items()}


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_wrapper(tmp_path: Path, state: State, wrapper: str, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(WRAPPED[wrapper](state), path, _use_new_zipfile_serialization=zipped)
    assert same(load_network(path), state)


@pytest.mark.parametrize("averaged", AVERAGED)
@pytest.mark.parametrize("raw", WRAPPERS)
def test_averaged_weights_come_first_and_what_was_taken_is_said(
    tmp_path: Path, state: State, averaged: str, raw: str
) -> None:
    path, said = tmp_path / "weights.pth", Said()
    torch.save({raw: moved(state), averaged: state}, path)
    checkpoint = load_checkpoint(path, progress=said)
    assert same(checkpoint.network, state)
    assert checkpoint.weights_key == averaged
    assert said.lines == [f"{path}: took the weights under {averaged!r}, not {raw}"]


def test_bare_weights_need_no_word(tmp_path: Path, state: State) -> None:
    path, said = tmp_path / "weights.pth", Said()
    torch.save(state, path)
    assert (load_checkpoint(path, progress=said).weights_key, said.lines) == ("", [])


@pytest.mark.parametrize("keys", [("model", "generator"), ("ema", "params_ema")])
def test_two_sets_of_weights_of_one_rank_are_not_chosen_from(
    tmp_path: Path, state: State, keys: tuple[str, str]
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(dict.fromkeys(keys, state), path)
    refused(path, repr(keys[0]), repr(keys[1]), "nothing tells which")


@pytest.mark.parametrize("ema", [{"decay": 0.999, "shadow_params": []}, [torch.zeros(1)]])
def test_averaged_weights_in_a_foreign_form_are_refused_instead_of_the_raw_ones(
    tmp_path: Path, state: State, ema: Any
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": state, "ema": ema}, path)
    refused(path, "under 'ema'", "a state dict")


def test_a_wrapper_that_holds_itself_ends(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["model"] = loop
    torch.save(loop, tmp_path / "loop.pth")
    refused(tmp_path / "loop.pth", "entry 'model' is dict")


def test_digest_and_weights_are_of_the_same_bytes_while_the_file_is_replaced(tmp_path: Path, state: State) -> None:
    versions = {}
    for k in range(2):
        weights = {key: torch.full_like(value, float(k)) for key, value in state.items()}
        save_file(weights, tmp_path / f"{k}.safetensors")
        versions[file_digest(tmp_path / f"{k}.safetensors")] = float(k)
    path, stop = tmp_path / "weights.safetensors", threading.Event()
    contents = [(tmp_path / f"{k}.safetensors").read_bytes() for k in range(2)]
    path.write_bytes(contents[0])

    def replace_constantly() -> None:
        for data in itertools.cycle(contents):
            if stop.is_set():
                return
            (tmp_path / "next").write_bytes(data)
            (tmp_path / "next").replace(path)

    thread = threading.Thread(target=replace_constantly)
    thread.start()
    try:
        loaded = [load_checkpoint(path) for _ in range(20)]
    finally:
        stop.set()
        thread.join()
    assert {versions[one.digest] for one in loaded} == {0.0, 1.0}, "the file must be seen to change"
    for one in loaded:
        assert float(next(one.network.parameters()).flatten()[0]) == versions[one.digest]


def test_module_is_stripped_only_where_all_keys_carry_it(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save({(f"module.{k}" if k == "de_layer3.0.bias" else k): v for k, v in state.items()}, path)
    refused(path, "differs in 2:", "de_layer3.0.bias is missing", "module.de_layer3.0.bias [3] is unknown")


def test_save_then_load_gives_the_same_function(tmp_path: Path, network: BANet) -> None:
    path = tmp_path / "sub" / "weights.safetensors"
    save_checkpoint(network, path)
    checkpoint = load_checkpoint(path)
    x = torch.rand(1, 3, 6, 8) - 0.5
    with torch.inference_mode():
        assert torch.equal(checkpoint.network(x), network(x))
    assert checkpoint.digest == file_digest(path)
    assert (checkpoint.name, checkpoint.recognised.spec) == ("banet-2x4", SPEC)
    assert [p.name for p in path.parent.iterdir()] == ["weights.safetensors"]


def test_channel_order_is_the_callers_word(tmp_path: Path, network: BANet) -> None:
    path = tmp_path / "weights.safetensors"
    save_checkpoint(network, path)
    assert load_checkpoint(path).contract == BGR
    assert load_checkpoint(path, channel_order="rgb").contract == replace(BGR, channel_order="rgb")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_load_as_float32(tmp_path: Path, state: State, dtype: torch.dtype) -> None:
    path = tmp_path / "weights.pth"
    torch.save({k: v.to(dtype) for k, v in state.items()}, path)
    assert same(load_network(path), {k: v.to(dtype).float() for k, v in state.items()})


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (BANetSpec(), "banet"),
        (BANetSpec(width=192, fuse_width=192), "banet_plus"),
        (BANET.presets["banet_nano"], "banet_nano"),
        (BANetSpec(depth=5), "banet-5x128"),
        (BANetSpec(width=192, fuse_width=96), "banet-10x192"),  # BANet+'s width, but not its fuse_conv
        (BANetSpec(depth=1, stem_width=5, width=6, fuse_width=2), "banet-1x6"),
    ],
)
def test_recognised_by_shapes(spec: BANetSpec, name: str) -> None:
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in BANet(spec).state_dict().items()}
    found = recognise(shapes)
    assert (found.family, found.name, found.spec) == (BANET, name, spec)


def test_weights_that_two_families_fit_are_refused() -> None:
    twin = replace(BANET, name="twin", presets={"twin": SPEC})
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in BANet(SPEC).state_dict().items()}
    with registered(twin), pytest.raises(InputError, match="fit more than one network: banet-2x4, twin"):
        recognise(shapes)
    assert recognise(shapes).family is BANET


def test_a_family_is_known_while_it_is_registered(tmp_path: Path) -> None:
    save_checkpoint(foreign(), tmp_path / "foreign.safetensors")
    with registered(FOREIGN):
        assert load_checkpoint(tmp_path / "foreign.safetensors").recognised.family is FOREIGN
    with pytest.raises(InputError, match="No known network has these"):
        load_checkpoint(tmp_path / "foreign.safetensors")


def test_a_name_that_is_taken_is_refused() -> None:
    twin = replace(BANET, name="twin", presets={"banet_plus": SPEC})
    with pytest.raises(InputError, match="'banet_plus' is taken"), registered(twin):
        pass


def test_presets_are_the_published_shapes() -> None:
    assert BANET.presets["banet"] == BANetSpec(10, 64, 128, 64)
    assert BANET.presets["banet_plus"] == BANetSpec(10, 64, 192, 192)


def test_random_bytes(tmp_path: Path) -> None:
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"noise{suffix}"
        path.write_bytes(random.Random(1).randbytes(5000))
        refused(path, "not a readable checkpoint", "copy or download it again")


def test_text_that_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "page.pth"
    path.write_text("<!DOCTYPE html><html><body>404</body></html>")
    refused(path, "another kind of file", "download it again")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"empty{suffix}"
    path.touch()
    refused(path, "is empty (0 bytes)", "copy or download it again")


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.pth", "does not exist", "check the name")


def test_directory(tmp_path: Path) -> None:
    refused(tmp_path, "is a directory", "name the .pth")


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    refused(tmp_path / "pipe.pth", "not a regular file")


class Said:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def track(self, items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
        del text, total
        yield from items


class Burglar:
    """A pickle of this makes a file when a careless reader opens it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "bare pickle, protocol 4"])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, state: State, form: str) -> None:
    mark, path = tmp_path / "stolen", tmp_path / "weights.pth"
    loot = {**state, "extra": Burglar(mark)}
    if form.startswith("bare"):
        path.write_bytes(pickle.dumps(loot["extra"], protocol=4 if "4" in form else 2))
        pickle.loads(path.read_bytes())
    else:
        torch.save(loot, path, _use_new_zipfile_serialization=form == "zip")
        torch.load(path, weights_only=False)
    assert mark.exists(), "the pickle must be dangerous, or this test shows nothing"
    mark.unlink()
    message = refused(path)
    assert not mark.exists()
    if "4" not in form:  # torch's reader stops at protocol 4's opcodes before it sees the name
        assert "asks to run code" in message
        assert "never does" in message
        assert "safetensors" in message


def test_a_whole_pickled_network_is_refused_with_the_cure(tmp_path: Path, network: BANet) -> None:
    path = tmp_path / "weights.pt"
    torch.save(network, path)
    refused(path, "unblur.networks.banet.network.BANet", "torch.save(network.state_dict()")


def test_someone_elses_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    torch.save(other.state_dict(), path)
    refused(path, "No known network has these 7 tensors", "They share no name",
            "Use a checkpoint of a known network (banet, banet_plus")  # fmt: skip
    torch.save({"en_layer1.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    refused(path, "Nearest is banet", "en_layer1.0.bias is missing", "more")


def test_the_nearest_miss_names_the_first_keys_that_differ(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    state["BAM_1.BA.conv_3.weight"] = torch.zeros(2, 4, 3, 1)
    state["BAM_2.final_conv.weight"] = torch.zeros(9)
    torch.save(state, path)
    refused(
        path,
        "Nearest is banet-2x4, which differs in 2:",
        "BAM_1.BA.conv_3.weight is [2, 4, 3, 1] instead of [2, 4, 3, 3]",
        "BAM_2.final_conv.weight is [9] instead of [4, 10, 3, 3]",
    )


def test_one_key_missing(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    del state["BAM_2.BA.fuse_conv.weight"]
    torch.save(state, path)
    refused(path, "differs in 1:", "BAM_2.BA.fuse_conv.weight is missing (expected [5, 8, 1, 1])")


def test_one_key_too_many(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**state, "attn_1.weight": torch.zeros(3)}, path)
    refused(path, "differs in 1:", "attn_1.weight [3] is unknown")


def test_a_gap_in_the_blocks(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save({k.replace("BAM_2.", "BAM_3."): v for k, v in state.items()}, path)
    refused(path, "BAM_2.input_conv.weight is missing")


def test_shapes_out_of_this_world(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    state["BAM_1.input_conv.weight"] = torch.zeros(1 << 40, 0, 3, 3)
    torch.save(state, path)
    refused(path, "BAM_1.input_conv.weight is [1099511627776, 0, 3, 3]")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_nan_and_infinity(tmp_path: Path, state: State, value: float, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    state["BAM_2.content_conv_d5_2.bias"][1] = value
    path.write_bytes(save(state)) if suffix == ".safetensors" else torch.save(state, path)
    refused(path, "BAM_2.content_conv_d5_2.bias holds 1 value(s)", "NaN or infinite", "use an earlier one")


def test_a_float64_weight_beyond_float32(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**state, "en_layer1.0.bias": torch.full((3,), 1e300, dtype=torch.float64)}, path)
    refused(path, "en_layer1.0.bias holds 3 value(s)", "in float32")


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_wrong_dtype(tmp_path: Path, state: State, dtype: torch.dtype) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**state, "en_layer1.0.bias": torch.ones(3).to(dtype)}, path)
    refused(path, "en_layer1.0.bias is", str(dtype), "floating-point weights")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.zeros(3), "holds Tensor, not a state dict"),
        ({}, "holds dict, not a state dict"),
        ({"epoch": 3, "weights": {"w": torch.zeros(1)}}, "'epoch' is int"),
        ({"model": torch.zeros(3)}, "No known network has these 1 tensors"),
        ({0: torch.zeros(1)}, "entry '<int>' is Tensor"),
    ],
)
def test_not_a_state_dict(tmp_path: Path, content: Any, words: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    refused(path, words)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_truncated(tmp_path: Path, state: State, kind: str, share: float) -> None:
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, "not a readable checkpoint", "copy or download it again")
