"""For the tests of plugin authors: what a stage or an executor must keep, and tiny recordings.

StageContract            tests of a stage, to be inherited
ExecutorContract         tests of an executor, to be inherited
assert_plugin_is_light   announcing a plugin imports nothing heavy
write_tone, …            recordings made on the spot
"""

from curate.testing.audio import write_broken, write_silence, write_tone
from curate.testing.executors import ExecutorContract
from curate.testing.lightness import assert_plugin_is_light
from curate.testing.stages import StageContract

__all__ = [
    "ExecutorContract",
    "StageContract",
    "assert_plugin_is_light",
    "write_broken",
    "write_silence",
    "write_tone",
]
