"""Sound files to measure on."""

from tests.unit.stages.conftest import clip

__all__ = ["clip"]
