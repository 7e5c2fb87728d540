"""`--set path=value` changes what the file says, as strictly as the file."""

from pathlib import Path

import pytest

from curate.config.addresses import StageAddresses
from curate.config.diagnostics import config_error
from curate.config.nodes import MappingNode, at, plain
from curate.config.overrides import override, replace_executor
from curate.config.yaml_reader import parse
from curate.errors import ConfigError

DOCUMENT = """
name: demo
vars: {manifest: a.jsonl}
stages:
  - use: read_manifest
    manifest: ${vars.manifest}
  - use: curate-speech/asr_nemo
    name: asr
  - use: quality_filter
    columns: [a, b]
  - use: quality_filter
  - use: asr_nemo
    name: asr.big
  - use: ${vars.last}
executor: local
"""


def not_loaded(node):
    raise config_error(node.place, "no plugin is loaded here")


ADDRESSES = StageAddresses(not_loaded, not_loaded, Path())


def mapping(text: str) -> MappingNode:
    document = parse(text, "f.yaml")
    assert isinstance(document, MappingNode)
    return document


def overridden(*sets):
    return override(mapping(DOCUMENT), sets, ADDRESSES)


def refusal(*sets):
    with pytest.raises(ConfigError) as caught:
        overridden(*sets)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("name=other", ("name",), "other"),
        ("run_dir=runs/x", ("run_dir",), "runs/x"),
        ("vars.manifest=../b=c.jsonl", ("vars", "manifest"), "../b=c.jsonl"),
        ("vars.last=merge", ("vars", "last"), "merge"),
        ("stages.asr.batch_size=32", ("stages", 1, "batch_size"), 32),
        ("stages.asr.resources.gpus=1", ("stages", 1, "resources"), {"gpus": 1}),
        ("stages.asr.big.workers=2", ("stages", 4, "workers"), 2),
        ("stages.read_manifest.manifest=[a, b]", ("stages", 0, "manifest"), ["a", "b"]),
        ("stages.0.manifest=b.jsonl", ("stages", 0, "manifest"), "b.jsonl"),
        ("stages.quality_filter.workers=3", ("stages", 2, "workers"), 3),
        ("stages.quality_filter-2.workers=3", ("stages", 3, "workers"), 3),
        ("stages.2.columns.1=c", ("stages", 2, "columns"), ["a", "c"]),
        ("executor=ray", ("executor",), "ray"),
        ("executor.use=ray", ("executor",), {"use": "ray"}),
        ("executor.workers=2", ("executor",), {"use": "local", "workers": 2}),
    ],
)
def test_a_value_is_put_at_the_end_of_its_path(text, path, value):
    assert plain(at(overridden(text), path)) == value


def test_the_last_of_two_wins_and_the_original_is_not_touched():
    document = mapping(DOCUMENT)
    changed = override(document, ["stages.asr.workers=1", "stages.asr.workers=2"], ADDRESSES)
    assert plain(at(changed, ("stages", 1, "workers"))) == 2
    assert plain(document) == plain(parse(DOCUMENT, "f.yaml"))


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("stages.asrr.batch_size=32", "stages.asrr.batch_size", "unknown stage 'asrr': did you mean 'asr'?"),
        ("stages.9.workers=1", "stages.9.workers", "unknown stage '9'"),
        ("stages.asr_nemo.x=1", "stages.asr_nemo.x", "2 stages use 'asr_nemo': write stages.asr or stages.asr.big"),
        ("stages.asr={use: x}", "stages.asr", "name an option"),
        ("stages=[]", "stages", "unknown stage ''"),
        ("stages.asr..x=1", "stages.asr..x", "empty part"),
        ("vars.manfest=b.jsonl", "vars.manfest", "did you mean 'vars.manifest'?"),
        ("vars=x", "vars", "variables are set one by one"),
        ("nam=x", "nam", "did you mean 'name'?"),
        ("name.x=y", "name.x", "'x' cannot be set in the string 'demo'"),
        ("stages.2.columns.5=c", "stages.2.columns.5", "write one from 0 to 1"),
        ("name=no", "name", "quote it, 'no'"),
        ("name={a: 1, a: 2}", "name", "second time"),
        ("name=", "name", "the value is missing"),
        ("name", "name", "no =: write --set path=value"),
        ("=x", "=x", "no path: write"),
    ],
)
def test_a_path_that_leads_nowhere_or_a_bad_value_is_named(text, place, says):
    message = refusal(text)
    assert message.startswith(f"--set {place}: ")
    assert says in message


def test_all_bad_overrides_are_reported_together():
    assert len(refusal("nam=x", "vars.x=1", "name=ok").splitlines()) == 2


def test_another_executor_drops_the_options_of_the_files_own():
    document = mapping("executor: {use: ray, address: auto}")
    assert plain(replace_executor(document, "local")) == {"executor": {"use": "local"}}
    assert plain(replace_executor(document, "ray")) == {"executor": {"use": "ray", "address": "auto"}}
