"""A filter is a value: read once, printed for others, and held against Lance itself."""

from __future__ import annotations

import inspect
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import FilterError, QueryError
from retrieval.gallery import rows as stored
from retrieval.gallery.filter import FAILED, UNSETTLED, Filter, with_ids
from retrieval.gallery.filter.columns import KNOWN_COLUMNS
from retrieval.gallery.filter.parser import (
    MOST_CONDITIONS,
    MOST_DEPTH,
    MOST_OF_A_PATTERN,
    MOST_VALUES,
)
from retrieval.images import PictureFacts
from retrieval.text import HIDDEN
from tests.retrieval.filters import ROWS, filters
from tests.watchdog import ends

INNER = ("embedding", "error", "checksum", "stored_ns", "perceptual")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """ROWS as imgret stores them, opened by Lance itself."""
    rows = [
        stored.Row(
            **{name: value for name, value in row.items() if name != "facts"},
            facts=row["facts"] and PictureFacts(**row["facts"]),
            embedding=np.ones(2, np.float16),
        )
        for row in ROWS
    ]
    path = tmp_path_factory.mktemp("filtered") / "images.lance"
    lance.write_dataset(stored.to_arrow(rows, stored.schema(2, "", "x")), str(path))
    return lance.dataset(str(path))


def passing(text: str) -> list[int]:
    """The ids that a filter accepts, by accepts()."""
    return [row["id"] for row in ROWS if Filter.parse(text).accepts(row)]


def in_lance(table: Any, wanted: str) -> list[int]:
    return table.to_table(columns=["id"], filter=wanted)["id"].to_pylist()


# --- what it means


@pytest.mark.long
@given(wanted=filters())
@settings(max_examples=200)
def test_a_printed_filter_is_read_as_the_same_filter(wanted: Filter) -> None:
    assert Filter.parse(str(wanted)) == wanted
    assert hash(Filter.parse(str(wanted))) == hash(wanted)


@pytest.mark.long
@given(wanted=filters())
@settings(max_examples=200)
def test_lance_finds_the_rows_that_the_filter_accepts(table: Any, wanted: Filter) -> None:
    assert in_lance(table, wanted.to_lance()) == [r["id"] for r in ROWS if wanted.accepts(r)]


@pytest.mark.parametrize("text", [
    "label = 'a'", "not label = 'a'", "label <> 'a' and not (width > 3 or label is null)",
    "NOT NOT label LIKE '%\\%'", "label = \"say \"\"x\"\"\"", "`label` == 'a'",
    "WIDTH>1AND(height<9)",
    "640 <= width", "not 640 < width", "facts.alpha", "not facts.alpha", "true = facts.alpha",
    "not (label in ('a', 'ab') or facts.frames between 2 and 3)", "label not ilike 'zoë'",
    "`facts`.`note` is not null", "height > width or not height != width", "- 5 < mtime_ns"[2:],
])  # fmt: skip
def test_what_is_read_means_what_lance_takes_it_for(table: Any, text: str) -> None:
    assert in_lance(table, text) == passing(text)


@pytest.mark.parametrize(("text", "printed"), [
    ("not (label = 'a' AND width < 3)", "label != 'a' OR width >= 3"),
    ("not (label like 'a%' or label is null)", "label NOT LIKE 'a%' AND label IS NOT NULL"),
    ("width > 1 and (height > 2 or size > 3)", "width > 1 AND (height > 2 OR size > 3)"),
    ("width > 1 or height > 2 and size > 3", "width > 1 OR (height > 2 AND size > 3)"),
    ("3 > width", "width < 3"),
    ("LABEL in ('it''s')", "label IN ('it''s')"),
    ("((width=1))", "width = 1"),
    ("not facts.alpha", "facts.alpha = false"),
    ("not width between -1 and 2", "width NOT BETWEEN -1 AND 2"),
])  # fmt: skip
def test_a_filter_is_printed_as_lances_sql(text: str, printed: str) -> None:
    assert str(Filter.parse(text)) == Filter.parse(text).to_lance() == printed


@pytest.mark.parametrize("text", [
    "facts.depth NOT IN (-5) OR facts.depth NOT IN (0)", "label NOT IN ('a') OR label NOT IN ('b')",
    "NOT facts.depth IN (8, 16) OR NOT facts.depth IN (1, 2)",
])  # fmt: skip
def test_null_is_not_outside_of_lists_though_lances_optimiser_says_so(
    table: Any, text: str
) -> None:
    assert in_lance(table, Filter.parse(text).to_lance()) == passing(text)
    assert in_lance(table, text) != passing(text)  # when it is right, as_lance() can be as_sql()
    assert str(Filter.parse("label NOT IN ('a')")) == "label NOT IN ('a')"


@pytest.mark.parametrize(("text", "printed"), [
    ("label = 'it''s \"x\"' and width != 3",
     '(has_label == true and label == "it\'s \\x22x\\x22") and (width != 3)'),
    ("label in ('a', 'b') or not id in (1, 2)",
     '(has_label == true and label in ["a", "b"]) or (id not in [1, 2])'),
    ("width between 1 and 3 and height > width",
     "(width >= 1 and width <= 3) and (height > width)"),
    ("not width between 1 and 3", "(width < 1 or width > 3)"),
    ("label is null or path is null", "(has_label == false) or (id < 0)"),
    ("path like 'a/%'", 'path >= "a/" and path < "a0"'),
    ("path not like 'a/%'", '(path < "a/" or path >= "a0")'),
    (r"path like 'a\%'", 'path == "a%"'),
    ("path like '%'", "id >= 0"),
    (r"path = 'a\u0041\'", r'path == "a\x5cu0041\x5c"'),
    ("path = 'a\nb'", r'path == "a\x0ab"'),
    ("path like '\ud7ff%'", 'path >= "\ud7ff" and path < "\ue000"'),
    ("path like '\U0010ffff%'", 'path >= "\U0010ffff"'),
])  # fmt: skip
def test_a_filter_is_printed_for_milvus(text: str, printed: str) -> None:
    assert Filter.parse(text).to_milvus() == printed


@pytest.mark.parametrize(("text", "said"), [
    ("label ilike 'a'", "Milvus has no ILIKE."),
    ("path like '%a%'", "Milvus finds text only by how it begins, not by the pattern '%a%'."),
    ("width > 3 and path like 'a_'", "Milvus finds text only by how it begins"),
    ("facts.alpha", "Milvus does not hold the column facts.alpha."),
    ("root = 'a' or id > 3", "Milvus does not hold the column root."),
])  # fmt: skip
def test_what_only_lance_can_tell_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(FilterError) as raised:
        Filter.parse(text).to_milvus()
    assert str(raised.value).startswith(said)
    assert "Use " in str(raised.value)


@pytest.mark.parametrize(("text", "row", "accepted"), [
    ("label = 'a'", {"label": None}, None),
    ("label != 'a'", {"label": None}, None),
    ("label = 'a' or width > 1", {"label": None, "width": 2}, True),
    ("label = 'a' and width > 1", {"label": None, "width": 1}, False),
    ("label = 'a' and width > 1", {"label": None, "width": 2}, None),
    ("not (label = 'a' or width > 1)", {"label": None, "width": 2}, False),
    ("label in ('a')", {"label": None}, None),
    ("label is null", {"label": None}, True),
    ("facts.note is null", {"facts": None}, True),
    ("not facts.alpha", {"facts": None}, None),
    ("width = height", {"width": 3, "height": None}, None),
    ("width between 3 and 1", {"width": 2}, False),
    ("path like 'a\\%_%'", {"path": "a%\n"}, True),
    ("path like 'a\\%_%'", {"path": "ab\n"}, False),
    ("path like 'a\\'", {"path": "a\\"}, True),
    ("path like '%a%b%'", {"path": "xaxbx"}, True),
    ("path like '%ab%b'", {"path": "ab"}, False),
    ("path ilike 'ZO_'", {"path": "Zoë"}, True),
    ("path like 'ZO_'", {"path": "Zoë"}, False),
])  # fmt: skip
def test_a_row_passes_by_the_logic_of_three_values(
    text: str, row: dict[str, Any], accepted: bool | None
) -> None:
    assert Filter.parse(text).accepts(row) is accepted


def test_a_pattern_of_many_wildcards_is_matched_at_once() -> None:
    with ends():
        assert Filter.parse(f"path like '{'%a' * 400}%b'").accepts({"path": "a" * 5_000}) is False


def test_filters_are_joined_and_sent_to_other_processes() -> None:
    both = Filter.parse("width > 1 or height > 1") & Filter.parse("label = 'a'")
    assert str(both) == "(width > 1 OR height > 1) AND label = 'a'"
    here, there = multiprocessing.Pipe()
    here.send(both)
    assert there.recv() == both


def test_the_columns_of_filters_are_those_that_are_stored() -> None:
    schema = stored.schema(2, "", "")
    kinds = {"text": pa.string(), "true or false": pa.bool_()}
    numbers = {32: pa.int32(), 64: pa.int64()}
    fields = {
        **{f.name: f.type for f in schema},
        **{f"facts.{f.name}": f.type for f in stored.FACTS_TYPE},
    }
    for column in KNOWN_COLUMNS.values():
        assert fields[column.name] == (kinds.get(column.holds) or numbers[column.bits])


def test_the_filters_of_our_own_are_lances_sql(table: Any) -> None:
    assert in_lance(table, with_ids([21, 3]).to_lance()) == [3, 21]
    assert in_lance(table, with_ids([]).to_lance()) == []
    assert in_lance(table, FAILED.to_lance()) == []
    assert in_lance(table, UNSETTLED.to_lance()) == [r["id"] for r in ROWS if r["sha256"] == ""]


# --- what is wrong


WRONG = [
    ("label =", "at its end: a value is expected."),
    ("label == ", "at its end: a value is expected."),
    ("label", "at its end: =, !=, <, <=, >, >=, IN, BETWEEN, LIKE or IS NULL is expected."),
    ("label = 'x", "at character 9: what ' opens there is never closed."),
    ('label = "x', 'at character 9: what " opens there is never closed.'),
    ("`label = 'x'", "at character 1: what ` opens there is never closed."),
    ("nothing = 3", "at character 1 (nothing): there is no column nothing."),
    ("lable = 'x'", "at character 1 (lable): there is no column lable; did you mean label?"),
    ("depth > 3", "at character 1 (depth): there is no column depth; did you mean facts.depth?"),
    ("width > 1 AND wdith < 3",
     "at character 15 (wdith): there is no column wdith; did you mean width?"),
    ("label > 3", "at character 9 (3): label holds text in single quotes."),
    ("label = BMW", "at character 9 (BMW): a value is expected; text needs single quotes."),
    ("label = true", "at character 9 (true): label holds text in single quotes."),
    ("width = 'x'", "at character 9 ('x'): width holds whole numbers, such as 640."),
    ("width = 640.5", "at character 9 (640.5): width holds whole numbers, such as 640."),
    ("width = 1e3", "at character 9 (1e3): width holds whole numbers, such as 640."),
    ("width = ٣", "at character 9 (٣): this sign means nothing in a filter."),
    ("width < 2147483648",
     "at character 9 (2147483648): width holds whole numbers below 2,147,483,648."),
    ("width > label",
     "at character 9 (label): width holds whole numbers, but label holds text, so they do not "
     "compare."),
    ("facts.alpha = 1", "at character 15 (1): facts.alpha holds true or false."),
    ("facts.alpha > true",
     "at character 13 (>): facts.alpha holds true or false, which have no order."),
    ("facts.alpha between true and true",
     "at character 13 (between): facts.alpha holds true or false, which have no order."),
    ("label = null", "at character 9 (null): nothing equals NULL; write label IS NULL."),
    ("label in ('a', null)", "at character 16 (null): nothing equals NULL; write label IS NULL."),
    ("label in ()", "at character 11 ()): a value is expected."),
    ("label in 'a'", "at character 10 ('a'): ( is expected."),
    ("label in ('a'", "at its end: ) is expected."),
    ("label is 'a'", "at character 10 ('a'): NULL or NOT NULL is expected after IS."),
    ("width between 3", "at its end: AND is expected, as in width BETWEEN 640 AND 1024."),
    ("width like '3%'",
     "at character 7 (like): LIKE works on text, but width holds whole numbers."),
    ("label like width",
     "at character 12 (width): a value is expected; text needs single quotes."),
    ("lower(label) = 'a'",
     "at character 1 (lower): a filter has no functions; ILIKE compares without regard to case."),
    ("label = lower('A')",
     "at character 9 (lower): a filter has no functions; ILIKE compares without regard to case."),
    ("width * height > 3",
     "at character 7 (*): a filter compares columns with values and does not calculate."),
    ("label = 'a' -- x",
     "at character 13 (-): a filter compares columns with values and does not calculate."),
    ("label = 'a'; x", "at character 12 (;): this sign means nothing in a filter."),
    ("label = \x00", r"at character 9 (\x00): this sign means nothing in a filter."),
    ("label = 'a' label = 'b'", "at character 13 (label): AND, OR or the end is expected."),
    ("label = 'a')", "at character 12 ()): AND, OR or the end is expected."),
    ("and", "at character 1 (and): a column is expected."),
    ("true", "at its end: a comparison of a column is expected."),
    ("1 = 1", "at character 5 (1): a column is expected on one side of a comparison."),
    ("label > width", "at character 9 (width): label holds text, but width holds whole numbers, so "
     "they do not compare."),
    ("\"label\" = 'nut'",
     "at character 1 (\"label\"): double quotes make text; write label without quotes."),
    ("name = 'x'", "at character 1 (name): there is no column name; did you mean path?"),
    ("Class = 'x'", "at character 1 (Class): there is no column Class; did you mean label?"),
    ("mtime_ns > '2020-01-01'",
     "at character 12 ('2020-01-01'): mtime_ns holds whole numbers, such as 1577836800000000000, "
     "nanoseconds from 1970 to 2020."),
    ("WHERE width > 3", "at character 1 (WHERE): leave out WHERE."),
    ("width > 3 && id = 1", "at character 11 (&): write AND instead."),
    ("width > 3 || id = 1", "at character 11 (|): write OR instead."),
    ("label = \u2018x\u2019",
     "at character 9 (\u2018): this quote is curly; write a straight one, '."),
    ("1 < label", "at character 1 (1): label holds text in single quotes."),
    ("path = 'caf\udce9'", r"at character 8 ('caf\udce9'): it holds bytes that are not UTF-8, "
     r"which a gallery stores as \xff and the like."),
    ("x" * 100 + " = 3", f"at character 1 ({'x' * 40}...): there is no column {'x' * 40}...."),
]  # fmt: skip


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_filter_is_told_what_one_may_be(text: str) -> None:
    with pytest.raises(FilterError) as raised:
        Filter.parse(text)
    assert str(raised.value).startswith("The filter is empty. Write it like \"label = 'BMW M3'")
    assert "facts.alpha" in str(raised.value)


@pytest.mark.parametrize(("text", "said"), WRONG, ids=lambda value: value[:20])
def test_a_wrong_filter_is_told_in_one_sentence_with_its_place(text: str, said: str) -> None:
    with pytest.raises(FilterError) as raised:
        Filter.parse(text)
    told = str(raised.value)
    assert told.startswith(f"The filter is wrong {said} Write it like ")
    assert "\n" not in told
    assert len(told) < 600


@pytest.mark.parametrize("inner", INNER)
def test_a_wrong_filter_names_the_columns_of_a_user_and_no_inner_one(inner: str) -> None:
    with pytest.raises(FilterError) as raised:
        Filter.parse("nothing = 3")
    assert inner not in str(raised.value)
    assert all(f" {c.name}" in str(raised.value) for c in KNOWN_COLUMNS.values())


@pytest.mark.parametrize("inner", sorted({*INNER, "facts.perceptual"}))
def test_inner_columns_are_none_of_a_filter(inner: str) -> None:
    with pytest.raises(FilterError, match="there is no column"):
        Filter.parse(f"{inner} is not null")


@pytest.mark.parametrize("wrong", [5, b"label = 'a'", ["label"]])
def test_what_is_neither_text_nor_a_filter_is_refused(wrong: Any) -> None:
    with pytest.raises(QueryError, match=r"^where is .*\. Give text or a Filter\.$"):
        Filter.of(wrong)


# --- what a stranger may send


@pytest.mark.parametrize(("text", "said"), [
    ("x" * 10_000_000, "10,000,000 characters"),
    ("'" * 29_999, "is never closed"),
    ("'" * 30_000, "a comparison of a column is expected"),
    ("(" * 30_000, "nested deeper"),
    ("not " * 7_000, "nested deeper"),
    ("(" * (MOST_DEPTH + 1) + "width = 1" + ")" * (MOST_DEPTH + 1), "nested deeper"),
    ("width = " + "9" * 29_000, "whole numbers below"),
    ("width = 9." + "9" * 29_000, "such as 640"),
    ("width=1 or " * MOST_CONDITIONS + "width=1", f"more than {MOST_CONDITIONS:,} conditions"),
    (f"id in ({'1,' * MOST_VALUES}1)", f"more than {MOST_VALUES:,} values"),
    (f"path like '{'_' * (MOST_OF_A_PATTERN + 1)}'", f"at most {MOST_OF_A_PATTERN:,} characters"),
    ("a." * 15_000, "this sign means nothing"),
    ("`" * 29_999, "is never closed"),
    (" " * 30_000, "The filter is empty."),
])  # fmt: skip
def test_hostile_text_is_refused(text: str, said: str) -> None:
    with ends(), pytest.raises(FilterError) as raised:
        Filter.parse(text)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 600


def test_the_deepest_and_the_widest_filter_are_read_by_lance(table: Any) -> None:
    deep = "".join("(id = 1 AND (id > 0 OR " for _ in range(MOST_DEPTH // 2)) + "id = 2"
    wide = " or ".join(["not (id=1 and id=2)"] * (MOST_CONDITIONS // 2))
    listed = f"id in ({','.join(map(str, range(MOST_VALUES)))})"
    nots = "not " * MOST_DEPTH + "id = 1"
    for text in (deep + "))" * (MOST_DEPTH // 2), wide, listed, nots):
        assert in_lance(table, (Filter.parse(text) & FAILED).to_lance()) == []
        assert in_lance(table, Filter.parse(text).to_lance()) == passing(text)


def test_a_filter_is_read_where_the_stack_is_nearly_full() -> None:
    def deeper(levels: int) -> object:
        return deeper(levels - 1) if levels else Filter.parse("(" * 20 + "id = 1" + ")" * 20)

    depth = len(inspect.stack())
    assert deeper(sys.getrecursionlimit() - depth - 250) == Filter.parse("id = 1")


@given(text=st.text("ab'\"`()=<>!,.-_%\\ \x001é\ud800", max_size=30) | st.text(max_size=30))
@settings(max_examples=200)
def test_any_text_is_a_filter_or_told_to_be_none(text: str) -> None:
    told = ""
    try:
        read = Filter.parse(text)
    except FilterError as error:
        told = str(error)
        read = Filter.parse("width > 1")
    assert HIDDEN.search(told) is None
    assert len(told) < 600
    assert Filter.parse(str(read)) == read


WORDS = ["label", "width", "facts.alpha", "id", "and", "or", "not", "in", "like", "is", "null",
         "between", "(", ")", ",", "=", "<", "'a'", "1", "true"]  # fmt: skip


@given(words=st.lists(st.sampled_from(WORDS), max_size=12))
@settings(max_examples=200)
def test_words_in_any_order_are_read_as_lance_reads_them_or_refused(
    table: Any, words: list[str]
) -> None:
    text = " ".join(words)
    try:
        read = Filter.parse(text)
    except FilterError:
        return
    assert in_lance(table, text) == [row["id"] for row in ROWS if read.accepts(row)]


# --- where it is taken


def test_imgret_has_the_filter_on_its_face() -> None:
    import imgret

    assert imgret.Filter is Filter
    assert imgret.FilterError is FilterError


def test_no_filter_is_written_outside_of_the_gallerys_folder() -> None:
    root = Path(__file__).parent.parent.parent
    sql = (" IS NULL", " IS NOT NULL", " LIKE '", " IN (", " BETWEEN ")
    found = [
        f"{file.relative_to(root)}: {line.strip()}"
        for package in ("retrieval", "classify", "imgret")
        for file in (root / package).rglob("*.py")
        if root / "retrieval" / "gallery" not in file.parents
        for line in file.read_text(encoding="utf-8").splitlines()
        if any(word in line for word in sql) and "--where" not in line
    ]
    assert found == []


@pytest.mark.parametrize("wrong", [5, None, b"width > 1", ["width > 1"]], ids=str)
def test_what_is_no_text_is_no_filter(wrong: Any) -> None:
    with pytest.raises(FilterError, match=r"^A filter is text, not .* Write it like "):
        Filter.parse(wrong)
    with pytest.raises(FilterError, match=r"Use Filter\.parse\(\)"):
        Filter(wrong)


def test_a_column_that_a_row_does_not_name_is_null() -> None:
    assert Filter.parse("width > 1").accepts({}) is None
    assert Filter.parse("facts.frames > 1").accepts({"width": 2}) is None
    assert Filter.parse("label IS NULL").accepts({}) is True


@pytest.mark.parametrize("like", ["i", "I", "\u0130", "\u0131", "A_", "%i%"])
def test_letters_of_turkish_are_folded_as_lance_folds_them(table: Any, like: str) -> None:
    text = f"label ILIKE '{like}'"
    assert in_lance(table, text) == passing(text)
