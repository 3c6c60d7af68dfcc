"""The options that choose an engine, where it runs and which pixels its file takes: the same for every door."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from unblur.core.errors import InputError

if TYPE_CHECKING:
    from unblur.images.contract import PixelContract

OLD_PRECISIONS = {"f32": "fp32"}
"""Spellings that stay."""


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add `--engine`, `--precision` and `--device`, whose choices are the catalogue's."""
    from unblur.engines.catalogue import backends, precisions

    parser.add_argument(
        "--engine",
        metavar="NAME|FILE",
        default="auto",
        help=f"auto (the fastest that runs here); {', '.join(backends())}; any engine that `unblur compare` takes; or "
        "a file: a graph (FILE.onnx) or a compiled engine (FILE.engine)",
    )
    parser.add_argument(
        "--precision",
        type=lambda text: OLD_PRECISIONS.get(text, text),
        choices=precisions(),
        help="of the engine's arithmetic (default: the engine's own; auto: fp32 on a CPU, fp16 on a GPU)",
    )
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument("--device", type=_device, default="", help="cpu, cuda, or cuda:1 for the second GPU")


def add_contract(parser: argparse.ArgumentParser) -> None:
    """Add `--contract`, for graphs that unblur did not export."""
    from unblur.images.contract import CONTRACTS

    parser.add_argument(
        "--contract",
        type=_contract,
        metavar="NAME",
        help=f"pixels of a graph that does not say them: {', '.join(CONTRACTS)}; rgb01/8: for sizes in multiples of 8",
    )


def _device(text: str) -> str:
    from unblur.engines.catalogue import parse_device

    try:
        parse_device(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _contract(text: str) -> PixelContract:
    from unblur.images.contract import parse_contract

    try:
        return parse_contract(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
