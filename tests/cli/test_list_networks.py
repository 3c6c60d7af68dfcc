"""`unblur networks` tells of every network, to people and to programs."""

from __future__ import annotations

import json

import pytest

from unblur.cli.list_networks import main
from unblur.engines.catalogue import CATALOGUE
from unblur.networks.registry import preset_names

PARAMETERS = {
    "banet": 17_988_547, "banet_plus": 40_768_131, "banet_s4": 7_364_803, "banet_s8": 14_447_299,
    "banet_s12": 21_529_795, "banet_v1_s4": 34_702_083, "banet_v1_s8": 68_658_947, "banet_v1_s10": 85_637_379,
    "banet_v1_s12": 102_615_811, "bag": 8_245_071, "saphn_a": 23_074_042, "saphn_b": 24_111_742, "sgenet": 19_521_658,
}  # fmt: skip
"""Of the specifications."""

GMACS = {"banet": (256.93, 3583.6), "banet_v1_s10": (1097.8, 15319.7), "bag": (36.7, 516.5), "saphn_b": (102.8, 1446.1)}
"""At 256x256 and at 720p, likewise."""


def test_people_get_a_table_and_programs_every_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--json"]) == 0
    streams = capsys.readouterr()
    told = json.loads(streams.out)
    found = {row["name"]: row for row in told["networks"]}
    assert list(found) == preset_names()
    assert {name: found[name]["parameters"] for name in PARAMETERS} == PARAMETERS
    for name, (small, large) in GMACS.items():
        assert found[name]["macs"]["256x256"] / 1e9 == pytest.approx(small, rel=2e-3)
        assert found[name]["macs"]["720p"] / 1e9 == pytest.approx(large, rel=2e-3)
    assert (found["saphn_a"]["multiple"], found["bag"]["reach"], found["bag"]["year"]) == (8, "global", 2020)
    assert sorted(name for names in told["engines"].values() for name in names) == sorted(CATALOGUE)
    lines = streams.err.splitlines()
    rows = [line for line in lines if line.split(" ")[0] in found]
    assert [line.split(" ")[0] for line in rows] == preset_names()
    assert max(map(len, rows)) <= 80
    assert any(line.startswith("bag ") and "8,245,071" in line and "36.7" in line for line in rows)
    assert "unblur doctor" in lines[-1]
