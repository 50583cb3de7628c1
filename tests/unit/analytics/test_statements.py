"""Only reading statements get through, in the very form in which they were judged."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_analytics.errors import StatementError
from lakefeed_analytics.statements import quoted, reading, sample


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "select * from demo_testing where dt = '2026-01-01'",
        "(SELECT 1)",
        "WITH a AS (SELECT 1 AS x) SELECT * FROM a",
        "SELECT 1 UNION ALL SELECT 2",
        "SELECT 1 INTERSECT SELECT 1",
        "VALUES 1, 2",
        "TABLE demo_testing",
        "SELECT * FROM t CROSS JOIN UNNEST(ARRAY[1, 2]) AS u (x)",
        'SELECT "date", "drop" FROM "delete"',
        "SELECT 'DROP TABLE x; --' AS harmless",
        "SELECT 'it''s' AS text",
        r"SELECT '\' AS backslash",
        'SELECT * FROM "demo_testing$partitions"',
        "SELECT U&'\\00e9'",
        "SELECT 'ünïcödé 💾'",
        "SHOW TABLES",
        "SHOW TABLES IN lakefeed 'demo*'",
        "SHOW PARTITIONS demo_testing",
        "SHOW CREATE TABLE demo_testing",
        "DESCRIBE demo_testing",
        "DESCRIBE FORMATTED `lakefeed`.`demo_testing`",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN ANALYZE VERBOSE SELECT 1",
        "EXPLAIN (TYPE VALIDATE) SELECT 1",
        "EXPLAIN (FORMAT JSON, TYPE IO) WITH a AS (SELECT 1) SELECT * FROM a",
    ],
)
def test_reading_statements_pass_as_they_are(sql: str) -> None:
    assert reading(sql) == sql


@pytest.mark.parametrize(
    ("sql", "sent"),
    [
        ("SELECT 1;", "SELECT 1"),
        ("  SELECT 1 ;\n", "SELECT 1"),
        ("-- a title\nSELECT 1 -- the end", "SELECT 1"),
        ("SELECT /* a ; b */ 1", "SELECT   1"),
        ("SELECT '--' /* x */", "SELECT '--'"),
        ("SELECT 1; -- done", "SELECT 1"),
    ],
)
def test_comments_and_the_last_semicolon_are_not_sent(sql: str, sent: str) -> None:
    assert reading(sql) == sent


WRITES = [
    "INSERT INTO t SELECT 1",
    "INSERT INTO t VALUES (1)",
    "UPDATE t SET x = 1",
    "DELETE FROM t",
    "MERGE INTO t USING s ON t.x = s.x WHEN MATCHED THEN DELETE",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE OR REPLACE VIEW v AS SELECT 1",
    "CREATE EXTERNAL TABLE t (x int) LOCATION 's3://b/k/'",
    "CREATE DATABASE d",
    "DROP TABLE t",
    "DROP VIEW v",
    "ALTER TABLE t ADD PARTITION (dt = '2026-01-01')",
    "MSCK REPAIR TABLE t",
    "TRUNCATE TABLE t",
    "UNLOAD (SELECT 1) TO 's3://b/k/' WITH (format = 'JSON')",
    "OPTIMIZE t REWRITE DATA USING BIN_PACK",
    "VACUUM t",
    "CALL system.do()",
    "GRANT SELECT ON t TO u",
    "SET SESSION x = 1",
    "USE d",
    "PREPARE p FROM DELETE FROM t",
    "EXECUTE p",
    "EXECUTE IMMEDIATE 'DROP TABLE t'",
    "USING EXTERNAL FUNCTION f(x INT) RETURNS INT LAMBDA 'l' SELECT f(1)",
]
HIDDEN = [
    "SELECT 1; DROP TABLE t",
    "SELECT 1;; DROP TABLE t",
    "SELECT 1; SELECT 2",
    "WITH a AS (INSERT INTO t SELECT 1) SELECT * FROM a",
    "WITH a AS (DELETE FROM t) SELECT * FROM a",
    "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
    "WITH a AS (SELECT 1) DELETE FROM t",
    "SELECT * FROM (DELETE FROM t)",
    "SELECT 1 INTO t",
    "SELECT * FROM t FOR UPDATE",
    "FROM s INSERT INTO t SELECT *",
    "EXPLAIN ANALYZE INSERT INTO t SELECT 1",
    "EXPLAIN ANALYZE VERBOSE DELETE FROM t",
    "EXPLAIN (TYPE VALIDATE) DROP TABLE t",
    "EXPLAIN CREATE TABLE t AS SELECT 1",
    "EXPLAIN EXPLAIN SELECT 1",
    "EXPLAIN SHOW TABLES",
    "EXPLAIN",
    "/* SELECT */ DROP TABLE t",
    "--SELECT 1\rDROP TABLE t",
    "-- SELECT 1\nDROP TABLE t",
    # Trino's comments do not nest: it would see the DROP.
    "/* /* */ DROP TABLE t -- */ */ SELECT 1",
    "SELECT 1 {# x #}",
    "{# #} DROP TABLE t",
    "/*+ hint */ DROP TABLE t",
    "SHOW TABLES; DROP TABLE t",
    "DESCRIBE t; DROP TABLE t",
    "DESCRIBE (DELETE FROM t)\\",
    "\uff24\uff32\uff2f\uff30 TABLE t",
    "DR\u200bOP TABLE t",
    "SELECT * FROM TABLE(system.query(query => 'DELETE FROM t'))",
    "SELECT * FROM read_text('/etc/passwd')",
]


@pytest.mark.parametrize("sql", WRITES + HIDDEN)
def test_anything_else_is_refused(sql: str) -> None:
    with pytest.raises(StatementError):
        reading(sql)


@pytest.mark.parametrize("sql", WRITES)
def test_a_write_is_refused_behind_a_comment_and_in_any_case(sql: str) -> None:
    for start, end in (("/* SELECT 1 */ ", ""), ("-- x\n", ""), ("  \n", ";"), ("EXPLAIN ANALYZE ", "")):
        for each in (sql, sql.lower()):
            with pytest.raises(StatementError):
                reading(start + each + end)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("", "there is no statement"),
        (" ; ", "there is no statement"),
        ("-- only a comment", "there is no statement"),
        ("SELEC 1", "line 1, column 7"),
        ("SELEC", "this is not a statement"),
        ("SELECT FROM", "line 1, column 11: not valid SQL for Athena: Expected table name"),
        ("SELECT (", "line 1, column 8: not valid SQL for Athena: something is missing here"),
        ("SELECT 1\nFROM", "line 2"),
        ("SELECT 'open", "line 1: the ' is never closed"),
        ("SELECT 1 /* open", "never closed"),
        ("SELECT 1; DROP TABLE t", "one statement at a time"),
        ("DROP TABLE t", "this is DROP"),
        ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "nested too deeply"),
        ("SELECT '" + "x" * 300_000 + "'", "longer than"),
        ("SELECT 1\x00", "not valid in SQL"),
        ("SELECT '\udcff'", "not UTF-8"),
        ("SELECT * FROM f(1)", "table functions are not accepted"),
    ],
)
def test_a_refusal_has_a_reason(sql: str, reason: str) -> None:
    with pytest.raises(StatementError) as caught:
        reading(sql)
    assert reason in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "<" not in str(caught.value)


@given(st.text())
def test_any_text_is_refused_or_sent_without_comments(text: str) -> None:
    try:
        sent = reading(text)
    except StatementError:
        return
    assert reading(sent) == sent


@given(
    st.lists(
        st.sampled_from(["SELECT", "DROP TABLE t", "'", '"', "--", "/*", "*/", ";", "\n", "1", "x", "("])
    )
)
def test_no_mixture_of_pieces_gets_a_drop_through(pieces: list[str]) -> None:
    try:
        sent = reading(" ".join(pieces))
    except StatementError:
        return
    assert not sent.upper().startswith("DROP")


_WORDS = (
    "SELECT FROM WHERE GROUP BY ORDER LIMIT JOIN ON WITH AS CASE WHEN END CAST IN VALUES ( ) , . [ a 1 'x' *"
)


@given(st.lists(st.sampled_from(_WORDS.split()), max_size=12))
def test_a_refusal_shows_nothing_of_the_parser(words: list[str]) -> None:
    said = ""
    try:
        reading(" ".join(words))
    except StatementError as error:
        said = str(error)
    assert not re.search(r"<|sqlglot|Token|None|object at", said)


def test_names_are_quoted() -> None:
    assert quoted('a"b') == '"a""b"'
    assert sample('x" LIMIT 1; DROP TABLE t --', 5) == 'SELECT * FROM "x"" LIMIT 1; DROP TABLE t --" LIMIT 5'
