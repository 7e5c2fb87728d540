"""For the tests of plugin authors: the contract of every extension point, and tiny recordings.

StageContract            tests to inherit: a stage
AudioStageContract       … a stage that processes audio
SourceContract           … a source
WriterContract           … a writer
FormatContract           … a format of manifests
AudioModelContract       … a model over audio, a recogniser among others
NormaliserContract       … a normaliser
ExecutorContract         … an executor
assert_plugin_is_light   announcing a plugin imports nothing heavy
write_tone, …            recordings made on the spot
"""

from curate.testing.audio import write_broken, write_silence, write_tone
from curate.testing.audio_models import AudioModelContract
from curate.testing.audio_stages import AudioStageContract
from curate.testing.executors import ExecutorContract
from curate.testing.lightness import assert_plugin_is_light
from curate.testing.normalisers import NormaliserContract
from curate.testing.sources import SourceContract
from curate.testing.stages import StageContract
from curate.testing.writers import FormatContract, WriterContract

__all__ = [
    "AudioModelContract",
    "AudioStageContract",
    "ExecutorContract",
    "FormatContract",
    "NormaliserContract",
    "SourceContract",
    "StageContract",
    "WriterContract",
    "assert_plugin_is_light",
    "write_broken",
    "write_silence",
    "write_tone",
]
