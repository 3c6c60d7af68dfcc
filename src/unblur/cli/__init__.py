"""One module per door: the only place that parses arguments or prints.

A Python that lacks what the doors need is told so here, before one is imported: in words, not in a traceback. So this
file, and the doors at the top of the project, have to be read by Pythons older than those that unblur runs on.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

OLDEST = (3, 11)
NEEDED = ("torch", "numpy", "onnx", "onnx_ir", "ml_dtypes", "onnxscript", "google.protobuf", "safetensors", "PIL",
          "skimage", "scipy", "pydantic", "psutil", "filelock", "rich", "jinja2")  # fmt: skip
"""The modules of pyproject.toml's dependencies, in its order."""


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # of the package around it
        return False


def what_to_type(version: "tuple[int, int]", missing: "list[str]") -> str:
    """What a Python of this version lacks, and the cure, for a person who has just tried a door; "": nothing."""
    if version < OLDEST:
        lack = "is Python {}.{}, unblur needs {}.{} or later".format(*version, *OLDEST)
    elif missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        lack = f"lacks packages that unblur needs: {', '.join(missing[:3])}{more}"
    else:
        return ""
    root = Path(__file__).resolve().parents[3]
    ready = next(
        (path for path in (root / ".venv/bin/python", root / ".venv/Scripts/python.exe") if path.exists()), None
    )
    if ready and ready.parent != Path(sys.executable or "python").parent:
        return f"{sys.executable} {lack}. Type {ready} in its place."
    where = f" in {root}" if (root / "Makefile").is_file() else " in the project's folder"
    return (
        f"{sys.executable} {lack}. Make the environment with `make setup`{where} and type .venv/bin/python there, or "
        'install into a Python of your own there: pip install -e ".[cpu]".'
    )


sentence = what_to_type(sys.version_info[:2], [module for module in NEEDED if not _is_there(module)])
if sentence:  # no walrus: Python 3.7 would give a traceback
    sys.stderr.write(f"unblur: {sentence}\n")
    raise SystemExit(4)
