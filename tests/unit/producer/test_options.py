"""Options of the command line: their help and defaults are those of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakefeed_common.declared import declarations
from lakefeed_producer.options import FILE_SETTINGS
from lakefeed_producer.settings import ProducerSettings
from tests.helpers.publishing import command


@pytest.mark.parametrize("name", ProducerSettings.model_fields)
def test_a_declaration_is_read_as_it_is_loaded(name: str) -> None:
    field = ProducerSettings.model_fields[name]
    declared = declarations("lakefeed_common.settings", "lakefeed_producer.settings")[name]
    assert declared.description == field.description
    if name != "max_row_bytes":  # declared as an expression
        assert declared.default == ("" if field.default is None else str(field.default))


@pytest.mark.parametrize(("name", "settings"), [("publish", ()), ("watch", ("state_folder",))])
def test_help_shows_the_setting_of_each_option(tmp_path: Path, name: str, settings: tuple[str, ...]) -> None:
    shown = " ".join(command(tmp_path, name, "--help").stdout.split())
    for setting in (*FILE_SETTINGS, *settings):
        field = ProducerSettings.model_fields[setting]
        assert f"{field.description} [LAKEFEED_{setting.upper()}".replace("`", "") in shown
    assert "[LAKEFEED_KAFKA_BOOTSTRAP_SERVERS; localhost:9092]" in shown
    assert "--again" not in shown


def test_an_option_takes_precedence_over_its_variable(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a;b\n1;-\n")
    options = ("--delimiter", ";", "--null", "-")
    done = command(tmp_path, "publish", "x.csv", "--dry-run", *options, LAKEFEED_DELIMITER="tab")
    assert done.stdout == '{"a":1,"b":null}\n'
