"""Open the inspector's list of an engine's layers for the X-ray, with the graph that the engine was built from."""

from __future__ import annotations

from pathlib import Path

from unblur.building.examine import Subject
from unblur.core.errors import InputError
from unblur.core.reading import read_regular
from unblur.engines.tensorrt.manifest import companions, read_manifest
from unblur.engines.tensorrt.targets import PORTABLE
from unblur.engines.xray.inspector import parse_inspector
from unblur.graphs.facts import read_facts
from unblur.graphs.file import open_graph
from unblur.graphs.metadata import NETWORK_KEY, properties

SUFFIX = ".layers.json"


def examine_layers(path: Path) -> tuple[Subject, tuple[str, ...]]:
    """Read `<engine>.layers.json` beside `<engine>.onnx`; also gives the layers' parameters that were not read.

    What was built for which target is taken from the manifest `<engine>.json` where one lies there; without it the
    target counts as portable. Raises InputError where a file is missing or the engine is not of this graph,
    UnblurError where a field of the list is not known.
    """
    engine = path.with_name(path.name.removesuffix(SUFFIX))
    graph_path, manifest_path = companions(engine)
    for file, what in ((path, "The list of layers"), (graph_path, "The graph the engine was built from")):
        if not file.is_file():
            raise InputError(
                f"{what}, {file}, does not exist; {engine.name}{SUFFIX} belongs beside {engine.name}.onnx."
            )
    found = parse_inspector(read_regular(path))
    source, model = open_graph(graph_path)
    edges = {value.name for value in (*model.graph.input, *model.graph.output)}
    if set(found.edges) != edges:
        raise InputError(
            f"{path} is of an engine with the tensors {', '.join(found.edges) or 'none'}, {graph_path} has "
            f"{', '.join(sorted(edges))}; name the graph it was built from."
        )
    height, width = source.signature.height, source.signature.width
    if height is None or width is None:
        raise InputError(f"{graph_path} takes every size; an X-ray needs a graph of one.")
    facts = read_facts(model, height, width)
    manifest = read_manifest(engine, "targets") if manifest_path.is_file() else {}
    targets = list(manifest.get("targets", {}))
    network = properties(model).get(NETWORK_KEY)
    subject = Subject(
        path.name,
        manifest.get("product", found.form),
        manifest.get("version", "by its inspector"),
        facts.declared or source.precision,
        network,
        facts,
        {targets[0] if len(targets) == 1 else PORTABLE: found.xray},
    )
    return subject, found.unread
