"""What was timed, as parts of a report: each engine's latency, and the session in which it was taken."""

from __future__ import annotations

from unblur.compare.parts import Part
from unblur.core.provenance import Conditions
from unblur.metrics.quantiles import Quantiles, Ratio, Summary
from unblur.metrics.stationarity import Stationarity
from unblur.metrics.stopwatch import Protocol, Sample


class EndToEnd(Part):
    """An 8-bit frame in, an 8-bit frame out: all of it, and how much of that is conversion, padding and cropping (the
    median of what the same calls took beside `run`).
    """

    summary: Summary
    conversion_ms: float


class OnDevice(Part):
    """The work on the device alone, its input lying there, from queueing it until the host knows that it is done; and
    what the way there and back takes beside it: the median of `run` less that, by rounds. `events`: the same calls
    between two events around the work on its stream, by the device's own clock, so without queueing and waiting; None
    where the engine tells no such.
    """

    summary: Summary
    copies_ms: float
    events: Summary | None = None

    @property
    def best_known(self) -> Summary:
        """Of the device's own clock, where it was asked."""
        return self.events or self.summary


class PaperLoop(Part):
    """Milliseconds by the loop that published run times were taken with: a clock around the call, and nobody waits for
    the device before it stops. A published test script does so, and waits later, as it saves the picture.

    `short`: the true median over this one. True is the same work with waiting, copies left out as the loop leaves them
    out. `queued`: the engine puts its work into a device's queue; else it has finished when the call returns.
    """

    median_ms: float
    true_ms: float
    short: Ratio
    queued: bool


class FileTimes(Part):
    """Median milliseconds of decoding one frame's PNG from memory, and of encoding a frame as one of `kilobytes`."""

    decode_ms: float
    encode_ms: float
    kilobytes: float


class Peak(Part):
    """The most of 1e12 operations a second that was reached in a precision; a multiply-add is two."""

    precision: str
    tera_per_s: float
    by: str


class Ceilings(Part):
    """What a device reached ("cpu", "cuda:0"). `load`: of the machine as this began; others at work lower ceilings."""

    device: str
    threads: int
    peaks: tuple[Peak, ...]
    memory_gb_s: float
    load: float | None

    def peak(self, precision: str) -> Peak | None:
        """Of the precision, if it was measured."""
        return next((one for one in self.peaks if one.precision == precision), None)


class Throughput(Part):
    """Frames a second of one engine, from a PNG in memory to a PNG in memory: `one_by_one`; `overlapped`, decoding the
    next and encoding the last while one runs, as `unblur deblur` does; `run_alone`, tensors in and out.
    `streams`: of so many engines of one thread each at once, tensors in and out; None where it was not measured.
    """

    run_alone: float
    one_by_one: float
    overlapped: float
    streams: float | None = None
    stream_count: int = 0


class Rates(Part):
    """What an engine makes of its device: 1e12 operations a second (a multiply-add is two) and their `share` of the
    most that was reached in its `precision`, None where none was; and GB a second, if every layer that multiplies
    reads its map and weights once and writes its result once. Maps that stay in a cache may take these above memory's.
    """

    precision: str
    tera_per_s: float
    share: float | None
    gb_s: float
    memory_share: float


class LatencyResult(Part):
    """One engine's latency: statistics of the samples, speed against the reference, and whether it had warmed up.

    `description` is of the runner that was timed, which may be another graph (one size) than the one of the frames.
    `quantiles`: with their intervals. `stationarity`: whether its samples are of one steady machine. All of these are
    of `run` alone; `end_to_end` is of whole frames in the same calls. `on_device`: where the engine queues its work on
    a device. `paper`: where that was asked for.
    """

    description: dict[str, str]
    summary: Summary
    speedup: Ratio
    warmed_up: bool
    quantiles: Quantiles | None = None
    stationarity: Stationarity | None = None
    end_to_end: EndToEnd | None = None
    on_device: OnDevice | None = None
    paper: PaperLoop | None = None

    @property
    def device_ms(self) -> float | None:
        """The median on the GPU alone, by its own clock; None where that was not measured."""
        events = self.on_device.events if self.on_device else None
        return events.median_ms if events else None

    @property
    def on_gpu(self) -> bool:
        """Whether the engine says so."""
        return not self.description["device"].startswith("cpu")


class LatencySession(Part):
    """How latency was measured, with every raw sample, warm-up included.

    `load_before`: the machine's load average over the last minute as the measurement began, None where unknown.
    `before`, `after`: the machine as it began and ended. `files`: what reading and writing a frame takes beside it.
    """

    height: int
    width: int
    frames: tuple[str, ...]
    protocol: Protocol
    load_before: float | None
    warmup_rounds: int
    samples: tuple[Sample, ...]
    before: Conditions | None = None
    after: Conditions | None = None
    files: FileTimes | None = None

    def latencies_ms(self, name: str) -> list[float]:
        """An engine's samples without warm-up, by rounds."""
        return [sample.elapsed_ms for sample in self.samples if sample.name == name and not sample.warmup]
