"""Ray, which need not be installed where `curate` is checked; what it returns is `Any` to us."""

from typing import Any

def __getattr__(name: str) -> Any: ...
