"""Models over audio: the base class `AudioModel`, and the stage and the runner that serve every one of them.

Importing this package loads neither numpy nor torch.
"""

from curate.models.capabilities import DeviceMemory, MemoryMeter, MemoryPeak, ModelCapabilities
from curate.models.clip import Clip
from curate.models.ctc import CtcLabels, CtcModel
from curate.models.engine import EngineModel
from curate.models.model import AudioModel, Row, Rows
from curate.models.resources import ModelResources
from curate.models.stage import AudioModelStage
from curate.models.windowed import WindowedModel, Windows

__all__ = [
    "AudioModel",
    "AudioModelStage",
    "Clip",
    "CtcLabels",
    "CtcModel",
    "DeviceMemory",
    "EngineModel",
    "MemoryMeter",
    "MemoryPeak",
    "ModelCapabilities",
    "ModelResources",
    "Row",
    "Rows",
    "WindowedModel",
    "Windows",
]
