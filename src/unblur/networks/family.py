"""The seam of a new paper: everything that the rest of the house asks of an architecture, in one record.

A family is one folder `networks/<paper>/` (network.py, form.py, family.py) and one line in the registry. Nothing
outside `networks/` knows a paper's name, its blocks or its sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.core.bounds import Size
from unblur.core.config import Section
from unblur.images.contract import PixelContract

MOST_CHANNELS = 1 << 16
"""A file may claim any shape; beyond this a proposal's sizes would overflow even on device "meta"."""

Shapes = Mapping[str, tuple[int, ...]]
"""Names and shapes of a state dict."""


class Spec(Protocol):
    """Everything that fixes the shapes of a network: a frozen dataclass that compares by value."""

    def label(self) -> str:
        """A name for a spec that is no preset, such as "banet-4x128"."""


S = TypeVar("S", bound=Spec)
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Exactness(Generic[N]):
    """How a family's networks become exact graphs, and where the proof of that looks.

    `form`: (network, size or None for every size, whether to flip the channels) -> a module in float64 and eval mode
    that leaves the network as it was and gives (restored, probe). A flipped one takes and gives the other channel
    order. Every parameter that the module has must take part: the proof looks for each in the graph.

    `probe`: (network, x) -> its early part up to a tensor after everything that depends on the size has happened once.
    The graph is held to it, in float32, for frames too big to run whole in float64.

    `smallest`: the shortest side that the graph takes, in pixels.

    `sizes`: where to prove, padded to the contract's multiple: what could break this family's form (primes, odd ones,
    small and elongated ones). The first four are proved at every export of a graph of every size: let them be small.

    `derived`: for a form that computes constants from a map's size in the graph: the size (rows, columns) of that map
    -> what comes of it, by a name for messages: whole numbers as they are, and matrices as where they are positive
    (bool). None for a form that computes none; `export/axes.py` asks every backend for them at every length.
    """

    form: Callable[[N, Size | None, bool], nn.Module]
    probe: Callable[[N, Tensor], Tensor]
    smallest: int
    sizes: tuple[Size, ...]
    derived: Callable[[Size], Mapping[str, Sequence[NDArray[Any]]]] | None = None


@dataclass(frozen=True)
class Batch:
    """The pairs of one iteration: (B, 3, h, w) each, in the pixels of the network's contract and on its device.

    `rate`: the iteration's learning rate. `restore`: the network as this run calls it, blurred -> restored; in 16 bits
    or on several devices where the run is so.
    """

    blurred: Tensor
    sharp: Tensor
    rate: float
    restore: Callable[[Tensor], Tensor]


class Recipe(Protocol):
    """How a paper trains its network. It holds the optimisers and, of a GAN, the critic.

    What it draws it draws from a generator of its own, for the one of the process is not part of a run's state.
    """

    def initialise(self) -> None:
        """Set the network's first weights in place, wherever they lie; the same for the same settings."""

    def step(self, batch: Batch) -> Mapping[str, float]:
        """One iteration; its losses by name, "loss" among them, which is the curve's.

        Raises FloatingPointError naming the value before a loss that is not finite touches a weight.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the network's own weights that the next step depends on, as a file can hold it without
        pickled objects: dicts, lists, tensors, numbers, text.
        """

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state, bit for bit.

        Raises ValueError, LookupError, RuntimeError or TypeError for what is no state of this recipe.
        """


@dataclass(frozen=True)
class Family(Generic[S, N]):
    """One architecture of the registry.

    `name`: its folder's. `title`: as people write it. `paper`: its citation in a line. `presets`: name -> spec of the
    published sizes. `contract`: the pixels that its networks take. `infer`: the best guess at a spec from names and
    shapes, whatever the state dict holds; it does not raise. `build`: a network with torch's own random weights; a call
    takes (B, 3, H, W) and gives the restored tensor, not clamped. `part_of`: a layer's name in the form -> (block,
    group): the block that X-ray counts it to, and the layers that a search decides on together.

    `recipe`: (network, settings) -> its training. Settings are the keys of `settings`, the tables of a training
    configuration that are this family's own, with their defaults; "seed"; and "amp", which is "off", "bf16" or "fp16".

    `refuse`: a sentence for weights that belong to the family's training and restore nothing (a critic), "" for others.

    `gates`: what the paper shows as blur masks or attention: a name for people -> the layer whose sigmoid it is.

    `reach`: how far a pixel of the result may depend on the frame: "global" (no part of a frame gives what the whole
    gives), "local" (a margin exists, nobody has stated it), or the margin in pixels.
    """

    name: str
    title: str
    paper: str
    year: int
    presets: Mapping[str, S]
    contract: PixelContract
    infer: Callable[[Shapes], S]
    build: Callable[[S], N]
    exact: Exactness[N]
    part_of: Callable[[str], tuple[str, str]]
    recipe: Callable[[N, Mapping[str, Any]], Recipe]
    reach: Literal["local", "global"] | int
    settings: type[Section] = Section
    refuse: Callable[[Shapes], str] | None = None
    gates: Callable[[N], Mapping[str, nn.Module]] | None = None

    def label(self, spec: S) -> str:
        """The preset's name, or the spec's own label."""
        return next((name for name, preset in self.presets.items() if preset == spec), "") or spec.label()
