"""Every test and every doctest runs in a directory of its own, on a port of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _on_any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    # Somebody else on this machine may be about to take the usual port.
    monkeypatch.setattr("kmdask.connecting.clusters.DASHBOARD_PORT", 0)
