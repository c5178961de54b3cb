"""Tables end their rows where datasets and pandas do, and name the line that can't be read."""

import csv
import io
import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import UnreadableTableError
from media.tables import read_json, read_table, read_text

ODD = "a\u2028b\u0085c\x0bd\x0ce\u2029f"


def rows(path, kind, needed=()):
    return [(row.line, row.values or row.problem) for row in read_table(path, kind, needed)]


def test_other_line_ends_of_unicode_stand_inside_values(tmp_path):
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({"p": ODD}, ensure_ascii=False) + "\n" + '{"p": "second"}\n')
    assert [row.values["p"] for row in read_table(lines, "jsonl")] == [ODD, "second"]
    table = tmp_path / "a.csv"
    table.write_text(f'id,prompt\r\n1,{ODD}\r\n2,"two\nlines"\r\n', newline="")
    assert rows(table, "csv") == [
        (2, {"id": "1", "prompt": ODD}),
        (4, {"id": "2", "prompt": "two\nlines"}),
    ]


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0")),
                         min_size=2, max_size=2), min_size=1))  # fmt: skip
def test_csv_and_json_lines_give_back_what_was_written(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("tables")
    written = io.StringIO(newline="")
    csv.writer(written).writerows([["a", "b"], *table])
    (folder / "t.csv").write_bytes(written.getvalue().encode())
    assert [list(row.values.values()) for row in read_table(folder / "t.csv", "csv")] == table
    frame = pd.DataFrame(table, columns=["a", "b"])
    text = "".join(json.dumps(dict(zip("ab", cells)), ensure_ascii=False) + "\n" for cells in table)
    (folder / "t.jsonl").write_bytes(text.encode())
    read = pd.DataFrame([row.values for row in read_table(folder / "t.jsonl", "jsonl")])
    pd.testing.assert_frame_equal(read, frame)


def test_a_byte_order_mark_is_accepted(tmp_path):
    for name, text in (("a.csv", "p\nx\n"), ("a.jsonl", '{"p": "x"}\n'), ("a.json", '{"p": "x"}')):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert rows(tmp_path / "a.csv", "csv", ["p"]) == [(2, {"p": "x"})]
    assert rows(tmp_path / "a.jsonl", "jsonl") == [(1, {"p": "x"})]
    assert read_json(tmp_path / "a.json") == {"p": "x"}


def test_latin_1_is_refused_with_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("id,p\n1,plain\n2,café\n".encode("latin-1"))
    with pytest.raises(UnreadableTableError, match=r"a\.csv:3: not UTF-8 .*save the file as UTF-8"):
        read_table(path, "csv")
    path.write_bytes("id,p\n".encode("utf-16"))
    with pytest.raises(UnreadableTableError, match=r"a\.csv:1: not UTF-8"):
        read_text(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_put_between_columns(tmp_path, delimiter):
    path = tmp_path / "a.csv"
    path.write_text(delimiter.join(("id", "p")) + "\n" + delimiter.join(("1", '"x, y"')) + "\n")
    assert rows(path, "csv", ["p", "id"]) == [(2, {"id": "1", "p": "x, y"})]


def test_problems_name_their_line_and_the_rest_is_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n3\n\n4,5,6\n7,8\n9,"open\n')
    assert rows(path, "csv") == [
        (2, {"a": "1", "b": "2"}),
        (3, "has another number of columns than the header"),
        (5, "has another number of columns than the header"),
        (6, {"a": "7", "b": "8"}),
        (7, "not valid CSV (unexpected end of data)"),
    ]
    path.write_text('{"a": 1}\n\n[2]\n{"a": \n{"a": 3}\n')
    assert [(line, what) for line, what in rows(path, "jsonl")] == [
        (1, {"a": 1}),
        (3, "a line is an object, not a list"),
        (4, "not valid JSON (Expecting value)"),
        (5, {"a": 3}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "a.csv:1: has no column 'p'; its columns are 'a', 'b'"),
        ("", "has no column 'p'; its columns are none"),
        ("p,a,a\n1,2,3\n", "has the column 'a' more than once"),
    ],
)
def test_a_header_that_cannot_be_used(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UnreadableTableError, match=words):
        read_table(tmp_path / "a.csv", "csv", ["p"])


def test_json_that_is_not(tmp_path):
    (tmp_path / "a.json").write_text('{\n"a": 1,\n}')
    with pytest.raises(UnreadableTableError, match=r"a\.json:3: not valid JSON"):
        read_json(tmp_path / "a.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(UnreadableTableError, match="nested too deeply"):
        read_json(tmp_path / "deep.json")
    with pytest.raises(UnreadableTableError, match="does not exist"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(UnreadableTableError, match="not a regular file"):
        read_json(tmp_path)
