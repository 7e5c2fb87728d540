"""`${…}`: types are kept, mistakes have a place, and nothing grows without bound."""

import time
from pathlib import Path

import pytest

from curate.config.nodes import MappingNode, plain
from curate.config.variables import interpolate
from curate.config.yaml_reader import parse
from curate.errors import ConfigError


def interpolated(text, folder="/the/folder"):
    document = parse(text, "f.yaml")
    assert isinstance(document, MappingNode)
    return plain(interpolate(document, Path(folder)))


def refusal(text):
    with pytest.raises(ConfigError) as caught:
        interpolated(text)
    return str(caught.value)


def test_a_variable_that_stands_alone_keeps_its_type():
    text = (
        "vars: {n: 5, x: 0.5, b: true, l: [1, a], t: 'no'}\nv: ['${vars.n}', '${ vars.x }', '${vars.b}', '${vars.l}']"
    )
    assert interpolated(text) == {"v": [5, 0.5, True, [1, "a"]]}


def test_a_variable_inside_a_text_is_written_as_it_was():
    assert interpolated("vars: {x: 0.30, n: 5}\nv: wer <= ${vars.x} and n > ${vars.n}") == {
        "v": "wer <= 0.30 and n > 5"
    }


def test_here_is_the_folder_of_the_file():
    assert interpolated("a: ${here}/x.nemo\nb: ${here}") == {"a": "/the/folder/x.nemo", "b": "/the/folder"}


def test_a_doubled_dollar_writes_the_reference_itself():
    assert interpolated("a: $${here} $ $$ ${here}") == {"a": "${here} $ $$ /the/folder"}


def test_what_a_variable_holds_is_not_read_again():
    assert interpolated("vars: {a: '$${here}'}\nb: ${vars.a}") == {"b": "${here}"}


def test_variables_may_refer_to_others_and_into_mappings():
    text = "vars: {root: '${here}/d', in: {m: '${vars.root}/m', n: 3}}\na: ${vars.in.m}\nb: ${vars.in.n}"
    assert interpolated(text) == {"a": "/the/folder/d/m", "b": 3}


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("vars: {manifest: x}\na: ${vars.manfest}", "2:4", "did you mean 'vars.manifest'?"),
        ("a:\n  - ${vars.x}", "2:5", "set it under `vars:`, or pass --set vars.x=…"),
        ("a: ${her}", "1:4", "did you mean 'here'?"),
        ("a: ${}", "1:4", "unknown variable"),
        ("a: ${vars}", "1:4", "unknown variable"),
        ("a: x${here", "1:4", "never closed"),
        ("a: ${env:HOME}", "1:4", "the environment is not read"),
        ("vars: {a: 1}\nb: ${vars.a.c}", "2:4", "`vars.a` is 1: remove `.c`"),
        ("vars: {a: [1]}\nb: x ${vars.a}", "2:4", "`${vars.a}` is a list and cannot stand inside a string"),
        ("vars: {a: null}\nb: x ${vars.a}", "2:4", "nothing (null)"),
        ("vars:\n  a: x ${vars.b}\n  b: ${vars.a}", "3:6", "in a circle, vars.a → vars.b → vars.a"),
        ("vars:\n  a: ${vars.a}", "2:6", "in a circle, vars.a → vars.a"),
        ("vars:\n  a: {b: ['${vars.a}']}", "2:11", "in a circle, vars.a → vars.a"),
        ("vars: {a.b: 1}", "1:8", "'a.b' has a '.' in its name"),
        ("vars: [1]", "1:7", "`vars` must be a mapping"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named_at_its_place(text, place, says):
    message = refusal(text)
    assert message.startswith(f"f.yaml:{place}: ")
    assert says in message


def test_all_bad_references_are_reported_together():
    message = refusal("stages:\n  - ${vars.a}\n  - ${vars.b}\nrun_dir: ${vars.c}")
    assert [line.partition(": ")[0] for line in message.splitlines()] == ["f.yaml:2:5", "f.yaml:3:5", "f.yaml:4:10"]


@pytest.mark.parametrize(
    "pattern", ["['${{vars.v{0}}}', '${{vars.v{0}}}']", "x${{vars.v{0}}}${{vars.v{0}}}", "['${{vars.v{0}}}']"]
)
def test_variables_made_of_variables_stay_bounded(pattern):
    lines = ["vars:", "  v0: aaaaaaaaaa", *(f"  v{n + 1}: {pattern.format(n)}" for n in range(500))]
    start = time.monotonic()
    for order in (lines, [lines[0], *reversed(lines[1:])]):
        assert "variables make" in refusal("\n".join([*order, "a: ${vars.v500}"]))
    assert time.monotonic() - start < 10
