"""The X-ray as figures: every kernel sorted and counted, summed by kind and by block, audited and bounded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unblur.engines.xray.audit import Finding, audit, computes_in
from unblur.engines.xray.gpus import Gpu
from unblur.engines.xray.kernel_kinds import CONVOLUTION, KINDS, block_of, kind_of
from unblur.engines.xray.kernels import Kernel, XRay
from unblur.engines.xray.macs import kernel_macs
from unblur.engines.xray.roofline import Roofline, roofline
from unblur.graphs.facts import GraphFacts


@dataclass(frozen=True)
class Row:
    """One kernel: `macs` is None where its shapes do not tell."""

    kernel: Kernel
    kind: str
    block: str
    runs_in: str
    macs: int | None

    def to_json(self) -> dict[str, Any]:
        listed = self.kernel.to_json()
        return {
            "name": listed.pop("name"),
            "launch": listed.pop("kind"),
            "kind": self.kind,
            "block": self.block,
            "runs_in": self.runs_in,
            "macs": self.macs,
            **listed,
        }


@dataclass(frozen=True)
class Sum:
    """Kernels, bytes and multiply-accumulates of a group; `share` is its part of all bytes."""

    name: str
    kernels: int
    bytes_moved: int
    macs: int
    share: float


@dataclass(frozen=True)
class XRayReport:
    """One engine for one target."""

    subject: str
    product: str
    version: str
    precision: str
    network: str | None
    target: str
    facts: GraphFacts
    activation_bytes: int
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    rooflines: tuple[Roofline, ...]

    @property
    def bytes_moved(self) -> int:
        return sum(row.kernel.bytes_moved for row in self.rows)

    @property
    def convolution_macs(self) -> int:
        """By the kernels' own shapes, padded channels included; the graph's own is `facts.convolution_macs`."""
        return sum(row.macs or 0 for row in self.rows if row.kernel.is_convolution)

    @property
    def unknown_macs(self) -> int:
        """Kernels whose arithmetic the shapes do not tell."""
        return sum(row.macs is None for row in self.rows)

    def by_kind(self) -> list[Sum]:
        """In the order of KINDS, empty kinds left out."""
        return [total for kind in KINDS if (total := self._sum(kind, (r for r in self.rows if r.kind == kind))).kernels]

    def by_block(self) -> list[Sum]:
        """In the order of the launches."""
        blocks = dict.fromkeys(row.block for row in self.rows)
        return [self._sum(block, (row for row in self.rows if row.block == block)) for block in blocks]

    def by_rule(self) -> list[Sum]:
        """Findings counted by rule; here `kernels` counts findings."""
        rules = dict.fromkeys(finding.rule for finding in self.findings)
        groups = {rule: [f.bytes_moved for f in self.findings if f.rule == rule] for rule in rules}
        return [Sum(rule, len(moved), sum(moved), 0, sum(moved) / self.bytes_moved) for rule, moved in groups.items()]

    def to_json(self, each_kernel: bool = True) -> dict[str, Any]:
        """All figures; without `each_kernel` only the sums."""
        kinds = {total.name: _figures(total) for total in self.by_kind()}
        report = {
            "subject": self.subject,
            "product": self.product,
            "version": self.version,
            "target": self.target,
            "network": self.network,
            "precision": self.precision,
            "height": self.facts.height,
            "width": self.facts.width,
            "kernels": len(self.rows),
            "bytes_moved": self.bytes_moved,
            "activation_bytes": self.activation_bytes,
            "convolution_bytes_share": round(kinds.get(CONVOLUTION, {}).get("bytes_share", 0.0), 4),
            "convolution_macs": self.convolution_macs,
            "convolution_macs_of_the_graph": self.facts.convolution_macs,
            "kernels_with_unknown_macs": self.unknown_macs,
            "by_kind": kinds,
            "by_block": {total.name: _figures(total) for total in self.by_block()},
            "findings": {r.name: {"count": r.kernels, "bytes_moved": r.bytes_moved} for r in self.by_rule()},
            "rooflines": [line.to_json() for line in self.rooflines],
        }  # fmt: skip
        if each_kernel:
            report["each_finding"] = [asdict(finding) for finding in self.findings]
            report["each_kernel"] = [row.to_json() for row in self.rows]
        return report

    def _sum(self, name: str, rows: Iterable[Row]) -> Sum:
        group = list(rows)
        moved = sum(row.kernel.bytes_moved for row in group)
        return Sum(name, len(group), moved, sum(row.macs or 0 for row in group), moved / max(self.bytes_moved, 1))


def make_report(
    subject: str,
    made_by: tuple[str, str],
    precision: str,
    network: str | None,
    target: str,
    xray: XRay,
    facts: GraphFacts,
    gpus: Sequence[Gpu],
) -> XRayReport:
    """Sort, count, audit and bound the kernels; `made_by` is product and version.

    Raises InputError where a GPU cannot compute in a kernel's type.
    """
    rows = tuple(
        Row(kernel, kind_of(kernel, facts), block_of(kernel, facts), computes_in(kernel), kernel_macs(kernel))
        for kernel in xray.kernels
    )
    rooflines = tuple(roofline(xray.kernels, gpu) for gpu in gpus)
    product, version = made_by
    return XRayReport(
        subject, product, version, precision, network, target, facts, xray.activation_bytes, rows,
        audit(xray, facts), rooflines,
    )  # fmt: skip


def _figures(total: Sum) -> dict[str, Any]:
    return {
        "kernels": total.kernels,
        "bytes_moved": total.bytes_moved,
        "bytes_share": round(total.share, 4),
        "macs": total.macs,
    }
