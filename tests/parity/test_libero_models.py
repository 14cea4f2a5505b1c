"""The scene's XML against the document that the original environment compiles, element for element."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET

import pytest
from support.goldens import recordings
from support.libero import task_of

from vla_bench import catalog
from vla_bench.bddl import read_problem
from vla_bench.sim.assets import robosuite_assets
from vla_bench.sim.scene import build_scene


def elements(xml: str) -> dict[str, list[tuple[str, dict]]]:
    """Section → elements in document order with their attributes, numbers as numbers."""
    root = ET.fromstring(xml)
    return {
        section.tag: [(e.tag, attributes(e)) for e in section.iter() if e.attrib]
        for section in root
        if len(section) or section.attrib
    }


def attributes(element: ET.Element) -> dict:
    kept = {key: value for key, value in element.attrib.items() if key != "colorspace"}
    for key, value in kept.items():
        try:
            kept[key] = tuple(float(x) for x in value.split())
        except ValueError:
            kept[key] = value.replace("/./", "/") if key == "file" else value
    if kept.get("file"):
        folder, _, rest = kept["file"].partition("/scenes/../")
        kept["file"] = f"{folder}/{rest}" if rest else folder
    return kept


@pytest.mark.parametrize("path", recordings("libero", "models", ".xml.gz"))
def test_libero_scene_is_the_document_of_the_original(path):
    assert path is not None, "CI must have the recordings"
    scene = build_scene(read_problem(task_of(path).bddl))
    ours = scene.xml.replace(str(catalog.libero_root()), "@DATA@")
    ours = ours.replace(str(robosuite_assets()), "@DATA@/robosuite_models")
    recorded = elements(gzip.decompress(path.read_bytes()).decode())
    mine = elements(ours)
    assert mine.keys() == recorded.keys()
    for section in recorded:
        assert mine[section] == recorded[section], section
    assert all(t.get("colorspace") == "linear" for t in ET.fromstring(scene.xml).iter("texture"))
