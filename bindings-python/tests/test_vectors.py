"""Python gives the same answers as Rust to the same calls."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import vectors

ALL = [pytest.param(vector, id=f"{file}-{vector['name']}") for file, vector in vectors.all_vectors()]
# Engines cannot share a memory store here, and no store can be made to fail.
SHARES = {"engine", "restart"}
FAILS = {"store"}
LEFT_OUT = [param for param in ALL if vectors.verbs_of(param.values[0]) & FAILS]
ON_SQLITE = [param for param in ALL if not vectors.verbs_of(param.values[0]) & FAILS]
IN_MEMORY = [param for param in ON_SQLITE if not vectors.verbs_of(param.values[0]) & SHARES]


@pytest.mark.parametrize("vector", ON_SQLITE)
def test_a_vector_on_sqlite(vector: dict[str, Any], tmp_path: pathlib.Path) -> None:
    vectors.run(vector, f"sqlite:{tmp_path}/quota.db", tmp_path)


@pytest.mark.parametrize("vector", IN_MEMORY)
def test_a_vector_in_memory(vector: dict[str, Any], tmp_path: pathlib.Path) -> None:
    vectors.run(vector, "memory:", tmp_path)


def test_few_are_left_out() -> None:
    assert len(ALL) > 200
    assert len(LEFT_OUT) < len(ALL) / 8
    assert len(IN_MEMORY) > len(ALL) / 2


def test_a_vector_that_is_not_met_is_found() -> None:
    vector = {
        "name": "wrong",
        "plans": {"default_plan": "free", "plans": {"free": {"quotas": {"jobs": "1/day"}}}},
        "steps": [{"consume": {"subject": "ana", "costs": {"jobs": 1}}, "expect": {"allowed": False}}],
    }
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.raises(vectors.Mismatch, match="wrong, step 1: consume"):
        vectors.run(vector, "memory:", pathlib.Path(folder))
