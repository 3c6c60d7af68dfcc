"""The X-ray's door: engines and graphs in, tables, page and figures out."""

from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import onnx
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unblur.building.engine import BuildOptions, build_engine
from unblur.building.examine import examine_engine
from unblur.cli import app
from unblur.cli.show_engine import main
from unblur.engines.tensorrt import product
from unblur.engines.xray.page import render_page
from unblur.engines.xray.report import make_report
from unblur.networks import build_network
from unblur.networks.banet.network import BANet

ROOT = Path(__file__).parents[2]
REPORT = json.loads((ROOT / "engines/reports/xray-banet.json").read_text())["engines"]


@pytest.fixture(scope="module")
def engine(fixed_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_engine(
        fixed_graph, tmp_path_factory.mktemp("xray") / "tiny.engine", BuildOptions("fp16", targets=("sm89",))
    ).path


def copied(engine: Path, folder: Path) -> Path:
    for file in engine.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / engine.name


@pytest.mark.tensorrt_rtx
def test_an_engine_and_the_graph_it_came_from_look_the_same(
    engine: Path, fixed_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(p.name for p in engine.parent.iterdir())
    figures = tmp_path / "xray.json"
    assert main([str(engine), "--json", str(figures), "--kernels"]) == 0
    text = capsys.readouterr().out
    assert "audit: all 45 convolutions run in the type the graph asks for (Half)" in text
    assert "a lower bound, not a latency" in text
    assert "BAM_2.fuse_conv_1/Conv" in text
    (of_engine,) = json.loads(figures.read_text())["engines"]
    command = [str(fixed_graph), "--precision", "fp16", "--target", "sm89", "--json", str(figures)]
    assert app.main(["xray", *command]) == 0
    (of_graph,) = json.loads(figures.read_text())["engines"]
    capsys.readouterr()
    for stdout in (["--json"], ["--json", "-"]):
        assert main([str(engine), "--kernels", *stdout]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["engines"] == [of_engine]
        assert "BAM_2.fuse_conv_1/Conv" in said.err
    assert sorted(p.name for p in engine.parent.iterdir()) == before
    assert {**of_engine, "subject": ""} == {**of_graph, "subject": ""}


@pytest.mark.tensorrt_rtx
def test_each_convolutions_arithmetic_agrees_with_the_graph(engine: Path) -> None:
    subject = examine_engine(engine)
    report = make_report("tiny", ("", ""), "fp16", None, "sm89", subject.xrays["sm89"], subject.facts, [])
    asked = {convolution.name: convolution.macs for convolution in subject.facts.convolutions}
    listed = {
        name: row.macs for row in report.rows if row.kernel.is_convolution for name in row.kernel.nodes if name in asked
    }
    padded = {name: (macs or 0) / asked[name] for name, macs in listed.items() if macs != asked[name]}
    # Three channels become four in front, the four of this tiny decoder eight.
    assert padded == {"en_layer1.0/Conv": 4 / 3, "de_layer1.0/ConvTranspose": 2.0}
    assert report.unknown_macs == 0
    # Small 1x1 convolutions may become generated kernels, whose arithmetic is pointwise; all others are there.
    assert {name for name in asked if name not in listed} <= {n for n in asked if ".conv_final/" in n}
    assert {total.name for total in report.by_block()} >= {"encoder", "BAM_1", "BAM_2", "decoder"}


@pytest.mark.parametrize("name", ["banet", "banet_plus"])
def test_arithmetic_of_the_report_follows_from_the_published_network(name: str) -> None:
    """Form = network - fuse_conv (folded) + wider strips (fuse_width instead of mid); 256.93 and 578.30 G published."""
    network = build_network(name)
    assert isinstance(network, BANet)
    spec = network.spec
    for figures in (f for f in REPORT if f["network"] == name):
        height, width = figures["height"], figures["width"]
        with FlopCounterMode(display=False) as counter:
            network.to("meta")(torch.empty((1, 3, height, width), device="meta"))
        published = counter.get_total_flops() // 2
        if (height, width) == (256, 256):
            assert published == pytest.approx({"banet": 256.93e9, "banet_plus": 578.30e9}[name], rel=1e-4)
        rows, columns = height // 2, width // 2
        fuse = spec.depth * 4 * spec.mid * spec.fuse_width * rows * columns
        strips = spec.depth * spec.width * (rows + columns) * (3 * 1 + 9 * (3 + 5 + 7))
        form = published - fuse + strips * (spec.fuse_width - spec.mid)
        assert figures["convolution_macs_of_the_graph"] == form
        padding = height * width * spec.stem_width * 9  # a fourth channel for the first convolution
        assert figures["convolution_macs"] == form + padding
        assert figures["kernels_with_unknown_macs"] == 0


def test_the_tables_of_the_document_are_the_report() -> None:
    text = (ROOT / "docs/xray.md").read_text()
    for f in REPORT:
        bounds = {line["gpu"]: line["lower_bound_ms"] for line in f["rooflines"]}
        kinds = {kind: total["bytes_moved"] / 1e9 for kind, total in f["by_kind"].items()}
        start = f"| {f['network']} | {f['height']}x{f['width']} |"
        assert (
            f"{start} {f['kernels']} | {f['bytes_moved'] / 1e9:.3f} | {kinds['convolution']:.3f} | "
            f"{f['convolution_macs_of_the_graph'] / 1e9:.1f} | {bounds['RTX 4090']:.2f} | {bounds['H200']:.2f} |\n"
        ) in text
        cells = " | ".join(f"{kinds[kind]:.3f}" for kind in ("convolution", "gemm", "strips", "copy", "pixels"))
        assert f"{start} {cells} |\n" in text
        assert set(kinds) == {"convolution", "gemm", "strips", "copy", "pixels"}
        assert f["findings"] == {"copy": {"count": 1, "bytes_moved": f["by_kind"]["copy"]["bytes_moved"]}}
    assert len(REPORT) == 4


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.tensorrt_rtx
def test_the_page_stands_alone(engine: Path, tmp_path: Path) -> None:
    page = tmp_path / "xray.html"
    assert main([str(engine), "--gpu", "RTX 4090", "H200", "--html", str(page)]) == 0
    text = page.read_text()
    parser = _Page()
    parser.feed(text.replace("<br>", "").removeprefix("<!doctype html>\n"))
    assert parser.open == []
    assert parser.addresses == []
    assert not {"script", "link", "img"} & set(parser.seen)
    assert "url(" not in text
    kernels = json.loads(engine.with_name("tiny.engine.json").read_text())["targets"]["sm89"]["kernels"]
    assert parser.seen.count("rect") == kernels
    assert "a lower bound, not a latency" in text
    assert "H200 (sm90, kernels are of sm89)" in text


@pytest.mark.tensorrt_rtx
def test_names_cannot_write_into_the_page(engine: Path) -> None:
    subject = examine_engine(engine)
    name = "<script>alert(1)</script>&"
    page = render_page([make_report(name, ("", ""), "fp16", name, "sm89", subject.xrays["sm89"], subject.facts, [])])
    assert "<script" not in page


@pytest.mark.tensorrt_rtx
def test_a_foreign_damaged_or_older_engine_is_refused(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def says(path: Path, words: str) -> None:
        assert main([str(path)]) == 2
        error = capsys.readouterr().err
        assert words in error, error
        assert "Traceback" not in error

    own = copied(engine, tmp_path)
    manifest_path, graph = own.with_name("tiny.engine.json"), own.with_name("tiny.engine.onnx")
    manifest = json.loads(manifest_path.read_text())
    for kernel in manifest["targets"]["sm89"]["each_kernel"]:
        del kernel["inputs"]
    manifest_path.write_text(json.dumps(manifest))
    says(own, "does not list its kernels in full")
    manifest_path.write_text('{"product": "tensorrt-rtx"}')
    says(own, "has no version, precision, ")
    manifest_path.write_text('{"product')
    says(own, "is no manifest of an engine, or only a part of one")
    copied(engine, tmp_path)
    own.write_bytes(own.read_bytes()[:-1])
    says(own, "tiny.engine is not the file that")
    copied(engine, tmp_path)
    model = onnx.load(graph)
    model.doc_string = "another"
    onnx.save(model, graph)
    says(own, "tiny.engine.onnx is not the file that")
    graph.unlink()
    says(own, "The engine's graph")
    manifest_path.unlink()
    says(own, "The engine's manifest")
    own.unlink()
    says(own, "does not exist")


@pytest.mark.tensorrt_rtx
def test_a_precision_that_is_not_there_is_exit_code_three(
    fixed_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(fixed_graph)
    onnx.helper.set_model_props(model, {**{e.key: e.value for e in model.metadata_props}, "unblur.precision": "fp16"})
    path = tmp_path / "liar.onnx"
    onnx.save(model, path)
    assert main([str(path), "--target", "sm89"]) == 3
    printed = capsys.readouterr()
    assert "audit: 45 promises broken" in printed.out
    assert "the metadata says fp16, but the graph's types ask for Float" in printed.err


@pytest.mark.tensorrt_rtx
def test_it_never_writes_over_what_it_looks_at(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = engine.with_name("tiny.engine.json")
    before = manifest.read_bytes()
    assert main([str(engine), "--json", str(manifest)]) == 2
    assert "is the same file as the input" in capsys.readouterr().err
    assert manifest.read_bytes() == before
    assert main([str(engine), "--target", "sm86"]) == 2
    assert "was not built for 'sm86'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x.engine", "--precision", "fp16"], "an engine has its precision"),
        (["x.engine", "--gpu", "RTX 4091"], "did you mean 'RTX 4090'"),
        (["x.onnx"], "x.onnx does not exist"),
        (["x.engine", "--target", "sm98"], "did you mean 'sm89'"),
        ([], "the following arguments are required"),
    ],
)
def test_bad_arguments(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_graph_of_every_size_and_a_missing_compiler(
    dynamic_graph: Path, fixed_graph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(dynamic_graph)]) == 2
    assert "takes every size" in capsys.readouterr().err

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(product.importlib, "import_module", absent)
    assert main([str(fixed_graph)]) == 4
    assert 'pip install -e ".[tensorrt]"' in capsys.readouterr().err


def test_the_commands_of_the_runbook_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "engines/README.md").read_text()
    commands = [shlex.split(line) for line in re.findall(r"\| `unblur xray (.*?)` \|", text)]
    assert len(commands) >= 4
    for command in commands:
        assert main(command) == 2  # every flag is taken; what is missing is the file
        assert re.search(r"(does not exist|belongs to)", capsys.readouterr().err), command
    usage = re.search(r"python engines/show_engine.py ENGINE(.*?)\n\n", text, re.DOTALL)
    assert usage is not None
    with pytest.raises(SystemExit):
        main(["--help"])
    known = set(re.findall(r"--[a-z]+", capsys.readouterr().out.partition("\n\n")[0])) - {"--help"}
    assert set(re.findall(r"--[a-z]+", usage[1])) == known
