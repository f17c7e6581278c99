# SPDX-License-Identifier: Apache-2.0
"""docs/configuration.md is made from the model."""

from __future__ import annotations

from pathlib import Path

from ucm import _core
from ucm.config import answers
from ucm.config.document import main, render
from ucm.config.fields import keys_of, names_of
from ucm.config.model import StoreConfig, UcmConfig

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf-8") == render(), (
        "run: python -m ucm.config.document docs/configuration.md"
    )


def test_the_document_names_every_key_and_every_answer():
    text = render()
    for name in [*names_of(StoreConfig), *names_of(UcmConfig), *dict(answers.all_answers())]:
        assert f"`{name}`" in text


def test_tables_have_as_many_columns_as_their_heads():
    width = 0
    for line in render().splitlines():
        if line.startswith("|"):
            cells = line.replace("\\|", "").count("|")
            width = width or cells
            assert cells == width, line
        else:
            width = 0


def test_the_check_tells_a_stale_document_from_a_fresh_one(tmp_path):
    path = tmp_path / "configuration.md"
    assert main([str(path)]) == 0
    assert main(["--check", str(path)]) == 0
    path.write_text("old")
    assert main(["--check", str(path)]) == 1


def test_the_model_and_the_core_know_the_same_options():
    of_stages = {name for name, entry in keys_of(StoreConfig).items() if entry.stages}
    shared = {"storage_backends", "timeout_s", "platform", "device_id", "unique_id"}
    assert of_stages | shared == set(_core.option_names()) - {"retain"}
