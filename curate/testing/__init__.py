"""For the tests of plugin authors: tiny recordings, and contracts that a stage must keep.

from curate.testing import StageContract, write_tone
"""

from curate.testing.audio import write_broken, write_silence, write_tone

__all__ = ["write_broken", "write_silence", "write_tone"]
