"""Which picture goes where: folders mirrored, and never an output where an input is."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from unblur.core.artefacts import refuse_inputs
from unblur.core.errors import InputError
from unblur.images.contract import PixelContract
from unblur.images.listing import READ_ONLY, READABLE, SUFFIXES, list_folder
from unblur.images.sizes import picture_size
from unblur.pipeline.deblur.finished import NAME
from unblur.pipeline.places import cache_folder


@dataclass(frozen=True)
class Task:
    """One picture: input, output, and the output's path below the output folder, with forward slashes."""

    source: Path
    output: Path
    label: str


@dataclass(frozen=True)
class Plan:
    """All tasks, the file that keeps their record, and a sentence for each thing that was passed over.

    The record is in the output folder, but for a single picture to a named file, or into the working directory, where
    nobody wants another file, in the user's cache.
    """

    record: Path
    tasks: tuple[Task, ...]
    passed_over: tuple[str, ...] = ()


def plan_tasks(source: Path, output: Path) -> Plan:
    """A file to a file or into a folder; a folder to a folder, sub-folders mirrored, names and suffixes kept. What is
    not written (GIF, AVIF) becomes a PNG: photo.gif.png.

    `output` is a file where it ends in a picture's suffix and is no folder. Raises InputError for a missing or
    empty source, for two inputs with one output, and wherever an output would be, or would next time be read as, an
    input.
    """
    try:
        plan = _folder_plan(source, output) if source.is_dir() else _file_plan(source, output)
        _refuse_collision(plan)
        _refuse_overlap(plan, source)
    except OSError as error:  # such as a name that is too long, or a loop of symbolic links
        raise InputError(f"Cannot use {error.filename}: {error.strerror}; choose another path.") from error
    return plan


def planned_sizes(plan: Plan, contract: PixelContract) -> Counter[tuple[int, int]]:
    """(height, width) after padding of the inputs, by their headers, and how many of each. Those that cannot be read
    are left out here: reading them says why.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    for task in plan.tasks:
        try:
            sizes[contract.padded_size(*picture_size(task.source))] += 1
        except InputError:  # told with its reason when its turn comes
            continue
    return sizes


def _file_plan(source: Path, output: Path) -> Plan:
    if not source.exists():
        raise InputError(f"{source} does not exist; give a picture or a folder of pictures.")
    if not source.is_file():
        raise InputError(f"{source} is neither a file nor a folder; give a picture or a folder of pictures.")
    named = output.suffix.lower() in SUFFIXES and not output.is_dir()
    if not named:
        foreign = output.suffix.lower() in Image.registered_extensions() and not output.is_dir()
        if foreign:
            raise InputError(f"Cannot write {output}: unblur writes {', '.join(SUFFIXES)}; change the suffix.")
        output = output / _output_name(source)
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{source} is not named as a picture ({', '.join(SUFFIXES)}); name the output file too.")
    record = output.parent / NAME
    if (named or output.parent.resolve() == Path.cwd()) and not record.exists():
        digest = hashlib.sha256(os.fsencode(output.resolve())).hexdigest()
        record = cache_folder() / "deblurred" / f"{digest[:32]}.json"
    return Plan(record, (Task(source, output, output.name),))


def _folder_plan(source: Path, output: Path) -> Plan:
    if output.exists() and not output.is_dir():
        raise InputError(f"{source} is a folder and {output} is a file; name a folder for the outputs.")
    listing = list_folder(source)
    if not listing.pictures:
        seen = "".join(f"\n  {sentence}" for sentence in listing.passed_over)
        raise InputError(
            f"{source} holds no pictures ({', '.join(READABLE)}, hidden ones left out); check the name.{seen}"
        )
    below = [(picture, (picture.parent / _output_name(picture)).relative_to(source)) for picture in listing.pictures]
    tasks = tuple(Task(picture, output / path, path.as_posix()) for picture, path in below)
    return Plan(output / NAME, tasks, listing.passed_over)


def _output_name(source: Path) -> str:
    return source.name + (".png" if source.suffix.lower() in READ_ONLY else "")


def _refuse_collision(plan: Plan) -> None:
    first: dict[Path, Path] = {}
    for task in plan.tasks:
        if task.output in first:
            raise InputError(
                f"{first[task.output]} and {task.source} would both become {task.output}; rename one of them."
            )
        first[task.output] = task.source


def _refuse_overlap(plan: Plan, source: Path) -> None:
    """Names can hide it behind `..`, symbolic links and hard links: resolved paths and inodes cannot."""
    if source.is_dir():
        root = source.resolve()
        folder = plan.record.parent  # of a folder's plan
        if folder.resolve().is_relative_to(root):
            raise InputError(
                f"The output folder {folder} is inside the input {source}: the next run would read its outputs "
                "as inputs. Choose a folder outside."
            )
        for task in plan.tasks:
            if task.output.parent.resolve().is_relative_to(root):
                raise InputError(f"{task.output} leads back into the input folder {source}; choose another output.")
    refuse_inputs([task.output for task in plan.tasks], [task.source for task in plan.tasks])
