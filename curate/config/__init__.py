"""From YAML to checked objects, with the place of every mistake."""

from curate.config.load import Configured, Host, load_pipeline
from curate.config.overrides import TOP_LEVEL

__all__ = ["TOP_LEVEL", "Configured", "Host", "load_pipeline"]
