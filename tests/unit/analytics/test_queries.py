"""The predefined named queries, and invalid files."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlglot
import trino_sql_validator

from lakefeed_analytics.queries import NamedQueries, NamedQuery
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import MissingError, SettingsError

SHIPPED = list(NamedQueries(AnalyticsSettings().queries_folder))


def test_the_analyses_are_there() -> None:
    assert {query.name for query in SHIPPED} == {
        "latest_price",
        "monthly_average",
        "best_and_worst_day",
        "moving_average",
        "volatility",
        "volume_leaders",
        "events_a_day",
    }


@pytest.mark.parametrize("query", SHIPPED, ids=lambda query: query.name)
def test_each_is_valid_for_athena(query: NamedQuery) -> None:
    sql = query.over("demo_testing")
    checked = trino_sql_validator.validate(sql)
    assert checked.valid, checked
    assert len(sqlglot.parse(sql, dialect="athena")) == 1
    assert "${" not in sql
    assert query.title
    assert query.description.endswith(".")


def write(folder: Path, text: str) -> Path:
    (folder / "mine.sql").write_text(text)
    return folder


def test_the_table_is_quoted(tmp_path: Path) -> None:
    queries = NamedQueries(
        write(tmp_path, '-- Mine.\n-- It counts\n-- all.\nselect count(*) from "${table}";\n')
    )
    query = queries.get("mine")
    assert (query.title, query.description) == ("Mine", "It counts all.")
    assert query.over('x" union select 1 --') == 'select count(*) from "x"" union select 1 --"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('select 1 from "${table}"', "first line must be a comment"),
        ("-- x\nselect 1", "must query the table"),
        ('-- x\ndelete from "${table}"', "only read-only statements"),
        ('-- x\nselec 1 from "${table}"', "not valid SQL"),
        ("", "no statement"),
    ],
)
def test_an_invalid_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        NamedQueries(write(tmp_path, text))
    assert "mine.sql" in str(caught.value)
    assert said in str(caught.value)


def test_an_empty_folder_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LAKEFEED_QUERIES_FOLDER"):
        NamedQueries(tmp_path)


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    queries = NamedQueries(write(tmp_path, '-- x\nselect 1 from "${table}"'))
    with pytest.raises(MissingError, match="available are mine"):
        queries.get("../mine")
