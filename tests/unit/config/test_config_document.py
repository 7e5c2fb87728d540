"""Strict YAML: each surprise is refused, at its place, with the remedy."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.config.nodes import MAX_VALUES, MappingNode, SequenceNode, plain
from curate.config.yaml_reader import MAX_BYTES, parse, parse_value, read_document
from curate.errors import ConfigError


def refusal(data, read=parse):
    with pytest.raises(ConfigError) as caught:
        read(data, "f.yaml")
    return str(caught.value)


def test_values_are_read_as_all_yaml_readers_agree():
    text = """
    nothing: [null, ~, ]
    booleans: [true, False]
    whole: [0, -3, +4, 0x1F]
    numbers: [1.5, .5, 5., 1e-3, -2E6]
    texts: [2024-01-31, 1.2.3, 'no', "010", n, nan, 12 kHz, '1:30', a:x]
    block: |
      two
      lines
    """
    assert plain(parse(text, "f.yaml")) == {
        "nothing": [None, None],
        "booleans": [True, False],
        "whole": [0, -3, 4, 31],
        "numbers": [1.5, 0.5, 5.0, 0.001, -2e6],
        "texts": ["2024-01-31", "1.2.3", "no", "010", "n", "nan", "12 kHz", "1:30", "a:x"],
        "block": "two\nlines\n",
    }


def test_each_key_and_value_knows_where_it_was_written():
    root = parse("a: 1\nb:\n  - x\n  - {c: 2}\n", "f.yaml")
    assert isinstance(root, MappingNode)
    assert str(root.keys["b"]) == "f.yaml:2:1"
    listed = root.entries["b"]
    assert isinstance(listed, SequenceNode)
    inner = listed.items[1]
    assert isinstance(inner, MappingNode)
    assert (str(inner.place), str(inner.keys["c"]), str(inner.entries["c"].place)) == (
        "f.yaml:4:5",
        "f.yaml:4:6",
        "f.yaml:4:9",
    )


@pytest.mark.parametrize(
    ("yaml", "place", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "3:1", "`a` stands here for the second time, first at f.yaml:1:1"),
        ("x: {a: 1, a: 2}", "1:11", "second time"),
        ("a: no", "1:4", "`no` would be read as false: quote it, 'no'"),
        ("a: [Yes]", "1:5", "`Yes` would be read as true: quote it, 'Yes'"),
        ("a:\n  - ON", "2:5", "quote it, 'ON'"),
        ("a: off", "1:4", "quote it, 'off'"),
        ("no: 1", "1:1", "quote it, 'no'"),
        ("a: 1:30", "1:4", "to the base 60"),
        ("a: 1:30:15.5", "1:4", "to the base 60"),
        ("a: 010", "1:4", "octal"),
        ("a: -007", "1:4", "octal"),
        ("a: 0o17", "1:4", "octal"),
        ("a: 0b11", "1:4", "binary"),
        ("a: 1_000", "1:4", "write it without '_'"),
        ("a: .nan", "1:4", "not a finite number"),
        ("a: -.Inf", "1:4", "not a finite number"),
        ("a: 1e999", "1:4", "too large"),
        ("a: " + "9" * 5000, "1:4", "5000 digits is too long"),
        ("a: !!python/name:os.system x", "1:4", "tag !!python/name:os.system is not read"),
        ("a: !mine 1", "1:4", "tag !mine is not read"),
        ("a: !!int x", "1:4", "leave the tag out"),
        ("!!set {a: 1}", "1:1", "tag !!set"),
        ("a: &here 1", "1:4", "anchors (&) are not read: put the value under `vars:`"),
        ("a: 1\nb: *a", "2:4", "aliases (*) are not read"),
        ("<<: {a: 1}", "1:1", "merge keys"),
        ("1: a", "1:1", "the key `1` is not a string: quote it, '1'"),
        ("~: a", "1:1", "not a string"),
        ("? [a]\n: b", "1:3", "cannot be a key"),
        ("${vars.a}: b", "1:1", "variables are not read in keys"),
        ("a:\n\t- b", "2:1", "a tab stands here"),
        ("a:\tb", "1:3", "a tab stands here"),
        ("a: 1\n---\nb: 1", "2:1", "a second document begins here"),
        ("a: b: c", "1:5", "quotes"),
        ("a: >= 3", "1:5", "put the text into quotes"),
        ("a: @b", "1:4", "put the text into quotes"),
        ("a: {b: ${here}/x}", "1:9", "put a string with ${…} into quotes"),
        ("a: [1", "1:6", "check the indentation, the brackets and the quotes"),
        ("a: 'x", "1:6", "quotes"),
        ("a:\n  - use: b\n   c: 1", "3:4", "where no open block does; `use: b` on line 2 begins in column 5"),
        ("a: x\x07", "1:5", "U+0007 is not allowed"),
        ('a: "\\uD800"', "1:4", "surrogate"),
        ('a: "\\UFFFFFFFF"', "1:1", "\\U"),
        ("[" * 100_000, "1:52", "nested deeper than 50"),
        (b"a: b\nb: \xc3\xa4\xff", "2:5", "not UTF-8"),
        ("a: b".encode("utf-16"), "1:1", "not UTF-8"),
        (b"", "1:1", "the file is empty"),
        ("# only a remark\n", "1:1", "the file is empty"),
        ("---\n", "1:1", "the file is empty"),
        (b"#" * (MAX_BYTES + 1), "1:1", "larger than 1,000,000 bytes"),
    ],
)
def test_what_could_mean_something_else_is_refused_at_its_place(yaml, place, says):
    message = refusal(yaml)
    assert message.startswith(f"f.yaml:{place}: ")
    assert says in message
    assert "\n" not in message


def test_core_tags_are_read():
    assert plain(parse("[!!str 5, !!str no, !!float 5, !!int '5', !!bool 'true', !!null '']", "f.yaml")) == [
        "5",
        "no",
        5.0,
        5,
        True,
        None,
    ]


def test_a_byte_order_mark_is_fine():
    assert plain(parse(b"\xef\xbb\xbfa: 1", "f.yaml")) == {"a": 1}


def test_too_many_values_are_data_and_belong_into_a_manifest():
    assert "values: put data into a manifest" in refusal("[" + "a," * (MAX_VALUES + 10) + "]")


@pytest.mark.parametrize(
    ("make", "place", "says"),
    [
        (lambda path: None, "", "the file does not exist"),
        (lambda path: path.mkdir(), "", "the file cannot be read"),
        (lambda path: path.write_text("- a"), ":1:1", "must hold a mapping"),
        (lambda path: path.write_text("just a text"), ":1:1", "must hold a mapping"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, make, place, says):
    path = tmp_path / "f.yaml"
    make(path)
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    assert str(caught.value).startswith(f"{path}{place}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("32", 32),
        ("[a, 2]", ["a", 2]),
        ("{a: 1}", {"a": 1}),
        ("/data/a=b:c.jsonl", "/data/a=b:c.jsonl"),
        ("wer <= 0.3 and duration > 1", "wer <= 0.3 and duration > 1"),
        ("''", ""),
        ("null", None),
        ("'a #1.jsonl'", "a #1.jsonl"),
    ],
)
def test_a_value_from_the_command_line_is_a_scalar_a_list_or_a_mapping(text, value):
    assert plain(parse_value(text, "--set x")) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/data/mine #1.jsonl", "YAML reads only '/data/mine' of the value: quote it"),
        ("no", "quote it, 'no'"),
        ("", "the value is missing"),
        ("#x", "the value is missing"),
        ("---", "the value is missing"),
        ("a: b", "quote it for YAML too, 'a: b'"),
        ("- a", "reads the value as a list"),
        ("[a", "brackets"),
        ("&a b", "anchors"),
        ("a" * (MAX_BYTES + 1), "too long"),
    ],
)
def test_a_value_from_the_command_line_is_never_cut_or_guessed(text, says):
    message = refusal(text, parse_value)
    assert message.startswith("f.yaml: ")
    assert says in message


YAML_LIKE = st.lists(
    st.sampled_from([*"ab01 \n\t-:?,[]{}#&*!|>'\"%@`\\.~=<$_", "no", "- ", ": ", "\n  ", "---\n", "!!", "\\U", "é"])
).map("".join)


@given(st.text() | YAML_LIKE)
@example("%YAML " + "9" * 5000 + ".1\n---\na")
@example('"\\U00110000"')
@example("a: &a [*a]")
@example("\ufeff")
@example("\x85")
def test_any_text_gives_a_document_or_a_configuration_error(text):
    for read in (parse, parse_value):
        try:
            plain(read(text, "f.yaml"))
        except ConfigError as error:
            assert str(error).startswith("f.yaml:")


@given(st.binary() | YAML_LIKE.map(str.encode))
def test_any_bytes_give_a_document_or_a_configuration_error(data):
    try:
        plain(parse(data, "f.yaml"))
    except ConfigError as error:
        assert str(error).startswith("f.yaml:")


@pytest.mark.parametrize(
    "data",
    [
        "a: &a [x, x]\n"
        + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)),
        "[" * 900_000,
        "{a: " * 200_000,
        "- " * 400_000,
        "? " * 400_000,
        "a: 1\n" * 150_000,
        "- a\n" * 200_000,
        "a " * 400_000,
        "'" * 900_000,
    ],
    ids=["laughs", "lists", "mappings", "dashes", "questions", "keys", "items", "words", "quotes"],
)
def test_hostile_files_end_soon(data):
    start = time.monotonic()
    try:
        parse(data, "f.yaml")
    except ConfigError as error:
        assert len(str(error)) < 1000
    assert time.monotonic() - start < 20
