"""Hypothesis profiles: how many examples a property is tried with.

`ci` is the default; `pytest --hypothesis-profile nightly` tries twenty times as many.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings

EXAMPLES = {"ci": 100, "nightly": 2000}

for _name, _examples in EXAMPLES.items():
    settings.register_profile(_name, max_examples=_examples, deadline=None)
settings.load_profile("ci")


def costly(**special: Any) -> settings:
    """Return the settings of a property whose examples are whole runs: a quarter of the profile's examples."""
    default = settings.default
    assert default is not None
    return settings(max_examples=default.max_examples // 4, **special)
