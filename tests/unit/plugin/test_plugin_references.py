from __future__ import annotations

from pathlib import Path

import pytest

from curate.errors import PluginError
from curate.plugin import CommandRef, ExecutorRef, StageRef
from curate.stage import ProcessingStage
from tests.unit.plugin.distributions import Site


def test_a_reference_loads_what_its_target_names() -> None:
    assert StageRef("any", "curate.stage:ProcessingStage", "…").load() is ProcessingStage


def test_the_qualified_name_begins_with_the_owner() -> None:
    owned = StageRef("any", "curate.stage:ProcessingStage", "…").owned_by("curate-thing")

    assert owned.qualified_name == "curate-thing/any"
    assert isinstance(owned, StageRef)


@pytest.mark.parametrize("target", ["curate.stage", "curate:stage:Stage", "", ":Stage", "curate.stage:", 7])
def test_a_target_that_is_not_written_as_module_colon_name_is_refused(target: str) -> None:
    with pytest.raises(PluginError, match=r"package\.module:Name"):
        StageRef("any", target, "…")


@pytest.mark.parametrize("name", ["a/b", "", "-x", "a b", None])
def test_a_name_that_cannot_be_qualified_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match="a name is made of"):
        StageRef(name, "curate.stage:Stage", "…")


def test_a_missing_attribute_is_named() -> None:
    with pytest.raises(PluginError, match=r"'curate-thing/any' \(curate.stage:Nothing\).*'Nothing'"):
        StageRef("any", "curate.stage:Nothing", "…").owned_by("curate-thing").load()


def test_a_missing_module_of_the_target_is_not_taken_for_a_dependency() -> None:
    with pytest.raises(PluginError, match=r"the module 'curate.nowhere' of its target cannot be found") as caught:
        StageRef("any", "curate.nowhere:Thing", "…", extra="nemo").load()

    assert "pip install" not in str(caught.value)


def test_a_missing_dependency_says_what_to_install(site: Site) -> None:
    (site.path / "needy.py").write_text("import a_module_nobody_has\n")

    with pytest.raises(PluginError, match=r"a_module_nobody_has.*pip install 'curate-thing\[gpu\]'"):
        StageRef("any", "needy:Thing", "…", extra="gpu").owned_by("curate-thing").load()


def test_a_missing_dependency_without_an_extra_blames_the_distribution(site: Site) -> None:
    (site.path / "careless.py").write_text("import a_module_nobody_has\n")

    with pytest.raises(PluginError, match=r"curate-thing needs 'a_module_nobody_has', but did not install it"):
        StageRef("any", "careless:Thing", "…").owned_by("curate-thing").load()


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "raise RuntimeError('no')", "def broken(:\n"])
def test_a_module_that_fails_while_it_is_imported_is_a_plugin_error(site: Site, code: str) -> None:
    (site.path / "failing.py").write_text(code)

    with pytest.raises(PluginError, match="fails while it is imported"):
        StageRef("any", "failing:Thing", "…").load()


def test_what_was_announced_must_be_what_is_found(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="must be a subclass of curate's Stage"):
        StageRef("any", "pathlib:Path", "…").load()
    with pytest.raises(PluginError, match=r"must be a click\.Command"):
        CommandRef("any", "pathlib:Path", "…").load()
    with pytest.raises(PluginError, match="must be a class"):
        ExecutorRef("any", "os:getcwd", "…").load()


def test_a_decorated_function_is_a_stage(site: Site) -> None:
    (site.path / "decorated.py").write_text(
        "from curate.stage_decorator import processing_stage\n"
        "@processing_stage(name='upper')\n"
        "def upper(record: dict): return record\n"
    )

    assert StageRef("upper", "decorated:upper", "…").load().name == "upper"
