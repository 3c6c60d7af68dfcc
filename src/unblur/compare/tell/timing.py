"""What was timed beside `run` alone, in words: whole frames, files, copies, the papers' loop."""

from __future__ import annotations

from collections.abc import Mapping

from unblur.compare.tell.table import milliseconds
from unblur.compare.timing import LatencyResult, LatencySession

UNLIKE = 0.05
"""Two medians of the same work may differ by this part and nobody would say that one clock tells something else."""


def frame_lines(session: LatencySession, latencies: Mapping[str, LatencyResult]) -> list[str]:
    """What the columns of whole frames mean, what files take, and copies where a device has its own memory."""
    lines = []
    whole = {name: one.end_to_end for name, one in latencies.items() if one.end_to_end}
    if whole:
        shares = [one.conversion_ms for one in whole.values()]
        between = milliseconds(min(shares))
        if len(shares) > 1:
            between += f"–{milliseconds(max(shares))}"
        lines.append(
            "Frame to frame: an 8-bit frame in, an 8-bit frame out, in the same calls; conversion, padding and "
            f"cropping take {between} ms of it."
        )
    if files := session.files:
        decode, encode = milliseconds(files.decode_ms), milliseconds(files.encode_ms)
        lines.append(
            f"Files are in neither: a PNG of this size ({files.kilobytes:.0f} kB) takes {decode} ms to decode and "
            f"{encode} ms to encode, on one thread and without a disk."
        )
    apart = {name: one.on_device for name, one in latencies.items() if one.on_device}
    copies = [
        f"{name} {milliseconds(one.summary.median_ms)} ms on the device, {milliseconds(one.copies_ms)} ms for the way "
        "there and back" for name, one in apart.items()
    ]  # fmt: skip
    if any(one.events for one in apart.values()):
        untold = [name for name, one in latencies.items() if one.on_gpu and one.device_ms is None]
        lines.append(
            "On the GPU: between two events around the engine's work on its stream, by the GPU's own clock, without "
            f"copies, queueing and waiting{'; not measured of ' * bool(untold)}{', '.join(untold)}."
        )
    if copies:
        lines.append(f"Copies, by the same clock as the medians: {'; '.join(copies)}.")
    elif whole:
        lines.append("No engine here works in a memory of its own: there are no copies to a device and back.")
    return lines


def paper_lines(latencies: Mapping[str, LatencyResult]) -> list[str]:
    """The papers' loop beside the true number, and why they differ, or do not, by what was measured."""
    told = {name: one.paper for name, one in latencies.items() if one.paper}
    if not told:
        return []
    lines = []
    queued = {name: one for name, one in told.items() if one.queued}
    if queued:
        each = "; ".join(
            f"{name} {milliseconds(one.median_ms)} ms for {milliseconds(one.true_ms)}, {one.short.value:.1f} times too "
            "short" for name, one in queued.items()
        )  # fmt: skip
        lines.append(
            f"The papers' loop stops its clock when the work is queued, and nobody has waited for the device: {each}."
        )
    done = {name: one for name, one in told.items() if not one.queued}
    if done:
        unlike = {name: one for name, one in done.items() if one.short.differs and abs(one.short.value - 1) > UNLIKE}
        if unlike:
            each = ", ".join(f"{name} {one.short.value:.2f} ({one.short.low:.2f}–{one.short.high:.2f})"
                             for name, one in unlike.items())  # fmt: skip
            lines.append(
                f"On this CPU the papers' loop does not give the true number again (true over it: {each}), though a "
                "call there has finished when it returns: the machine was not steady."
            )
        else:
            furthest = max(abs(one.short.value - 1) for one in done.values())
            lines.append(
                "The papers' loop waits for no device before it stops its clock, which on a GPU times the queueing "
                "alone; on this CPU a call has finished when it returns, and the loop gives the true number, to "
                f"{furthest:.1%} at most as measured."
            )
    return lines
