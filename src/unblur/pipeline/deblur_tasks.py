"""Which picture goes where: folders mirrored, and never an output where an input is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from unblur.core.artefacts import refuse_inputs
from unblur.core.errors import InputError
from unblur.images.contract import PixelContract
from unblur.images.listing import SUFFIXES, find_pictures
from unblur.images.sizes import picture_size


@dataclass(frozen=True)
class Task:
    """One picture: input, output, and the output's path below the output folder, with forward slashes."""

    source: Path
    output: Path
    label: str


@dataclass(frozen=True)
class Plan:
    """All tasks, and the folder that keeps their record."""

    folder: Path
    tasks: tuple[Task, ...]


def plan_tasks(source: Path, output: Path) -> Plan:
    """A file to a file or into a folder; a folder to a folder, sub-folders mirrored, names and suffixes kept.

    `output` is a file where it ends in a picture's suffix and is no folder. Raises InputError for a missing or
    empty source, and wherever an output would be, or would next time be read as, an input.
    """
    try:
        plan = _folder_plan(source, output) if source.is_dir() else _file_plan(source, output)
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
    if output.is_dir() or output.suffix.lower() not in SUFFIXES:
        foreign = output.suffix.lower() in Image.registered_extensions() and not output.is_dir()
        if foreign:
            raise InputError(f"Cannot write {output}: unblur writes {', '.join(SUFFIXES)}; change the suffix.")
        output = output / source.name
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{source} is not named as a picture ({', '.join(SUFFIXES)}); name the output file too.")
    return Plan(output.parent, (Task(source, output, output.name),))


def _folder_plan(source: Path, output: Path) -> Plan:
    if output.exists() and not output.is_dir():
        raise InputError(f"{source} is a folder and {output} is a file; name a folder for the outputs.")
    pictures = find_pictures(source)
    if not pictures:
        raise InputError(f"{source} holds no pictures ({', '.join(SUFFIXES)}, hidden ones left out); check the name.")
    below = [picture.relative_to(source) for picture in pictures]
    return Plan(output, tuple(Task(source / path, output / path, path.as_posix()) for path in below))


def _refuse_overlap(plan: Plan, source: Path) -> None:
    """Names can hide it behind `..`, symbolic links and hard links: resolved paths and inodes cannot."""
    if source.is_dir():
        root = source.resolve()
        if plan.folder.resolve().is_relative_to(root):
            raise InputError(
                f"The output folder {plan.folder} is inside the input {source}: the next run would read its outputs "
                "as inputs. Choose a folder outside."
            )
        for task in plan.tasks:
            if task.output.parent.resolve().is_relative_to(root):
                raise InputError(f"{task.output} leads back into the input folder {source}; choose another output.")
    refuse_inputs([task.output for task in plan.tasks], [task.source for task in plan.tasks])
