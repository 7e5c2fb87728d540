"""A process that loads a NeMo model and writes down what that did to it: python nemo_child.py MODEL OBSERVATIONS

Importing NeMo takes ten seconds of CPU, so one process makes all observations and several tests read them. They go to
a file, because the streams of this process are among what is observed.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from loguru import logger

HEAVY = ("torch", "nemo", "lightning", "transformers")


def loaded() -> list[str]:
    return [name for name in HEAVY if name in sys.modules]


def observe(model: str) -> dict[str, Any]:
    """Load the model as a worker does; return what was seen."""
    import numpy

    from curate.asr import NemoRecogniser

    logger.disable("curate")  # as `import curate` does
    before = warnings.showwarning, list(logging.getLogger().handlers)
    recogniser = NemoRecogniser(model)
    loaded_before_setup = loaded()
    recogniser.setup()
    recogniser.transcribe([numpy.zeros(16_000, dtype="float32")])

    logged: list[tuple[str, str]] = []
    logger.enable("curate")
    logger.remove()
    logger.add(lambda line: logged.append((line.record["level"].name, line.record["message"])), level=0)
    from nemo.utils import logging as nemo_logging

    nemo_logging.info("flood")
    nemo_logging.warning("careful")
    nemo_logging.error("broken")
    return {
        "loaded_before_setup": loaded_before_setup,
        "loaded_after_setup": loaded(),
        "showwarning_is_kept": warnings.showwarning is before[0],
        "root_handlers_are_kept": logging.getLogger().handlers == before[1],
        "logged": logged,
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(observe(sys.argv[1])))
