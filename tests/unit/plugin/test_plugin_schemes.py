"""Storage schemes of plugins: made when they are used, and known to nothing but `curate.storage`."""

from __future__ import annotations

import importlib
import pickle

import pytest

from curate.errors import InfrastructureError
from curate.plugin import PluginHost, SchemeRef
from curate.plugin.schemes import AnnouncedScheme, schemes_of
from curate.storage import lookup, register
from tests.unit.plugin.distributions import Site

STORE = """
from curate.plugin import SchemeRef, hookimpl
made = []
class Store:
    def __init__(self):
        made.append(self)
    def open(self, uri):
        raise FileNotFoundError(2, uri)
    def identity(self, uri):
        return uri
    def writing(self, uri):
        raise OSError
@hookimpl
def curate_storage_schemes():
    return [SchemeRef("NAME", f"{__name__}:Store", "A store")]
"""


def test_store_is_made_when_a_url_of_its_scheme_is_first_used(site: Site) -> None:
    module = importlib.import_module(site.install("storing", STORE.replace("NAME", "lazily")))
    register(schemes_of(PluginHost()))
    store = lookup("lazily")
    assert store is not None and module.made == []
    assert [store.identity("lazily://a"), store.identity("lazily://b")] == ["lazily://a", "lazily://b"]
    assert len(module.made) == 1
    assert pickle.loads(pickle.dumps(store)).identity("lazily://c") == "lazily://c"


def test_scheme_of_two_plugins_is_a_warning_and_left_out(site: Site, warnings: list[str]) -> None:
    site.install("one", STORE.replace("NAME", "shared"))
    site.install("two", STORE.replace("NAME", "shared"))
    assert "shared" not in schemes_of(PluginHost())
    [line] = warnings
    assert "storage scheme 'shared' is announced by 2 plugins: write one/shared or two/shared" in line


def test_store_that_cannot_be_imported_stops_the_run_and_blames_no_record() -> None:
    store = AnnouncedScheme(SchemeRef("gone", "a_module_nobody_has:Store", "Gone"))
    with pytest.raises(InfrastructureError, match="the module 'a_module_nobody_has' of its target cannot be found"):
        store.open("gone://a")
    with pytest.raises(InfrastructureError, match=r"must be a class that implements curate\.storage\.Scheme"):
        AnnouncedScheme(SchemeRef("odd", "curate.plugin:PluginStatus", "Of another kind")).open("odd://a")
