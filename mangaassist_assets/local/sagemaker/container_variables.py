"""What a model's definition may set in the environment of its serving process.

On AWS a container is a machine of its own. Here it is a process of this user: a variable that names code (PYTHONPATH,
LD_PRELOAD, PYTHONSTARTUP, …) would run it with all that this user may do. Their number has no end, so those are listed
that are taken. Code of one's own is installed, or on the PYTHONPATH that `mangaassist` is started with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

TAKEN = (
    *("MANGAASSIST_MODEL_NAME", "MANGAASSIST_MODEL_VERSION", "MANGAASSIST_MODEL_SHA256", "MANGAASSIST_ENTRY_POINT"),
    *("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM"),
)
# Of SageMaker's own toolkit, which is not here: nothing reads them.
_TOOLKIT = re.compile(r"SAGEMAKER_[A-Z0-9_]+")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def refusal_of(variables: Mapping[str, str]) -> str | None:
    """Return why variables of a container are not taken, None where they are."""
    for name, value in variables.items():
        if name not in TAKEN and not _TOOLKIT.fullmatch(name):
            return (
                f"Environment has {name[:80]}, which the local SageMaker does not pass on. It takes {', '.join(TAKEN)} "
                "and SAGEMAKER_…; set others where mangaassist is started."
            )
        if name == "MANGAASSIST_ENTRY_POINT" and not _MODULE.fullmatch(value):
            return f"Environment's MANGAASSIST_ENTRY_POINT {value[:80]!r} is not the name of a module."
    return None
