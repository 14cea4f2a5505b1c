from typing import Annotated, Literal

import pytest
from pydantic import Field

from vla_bench.config import FileModel, parse, read_toml
from vla_bench.errors import DataError, MissingDataError


class Wheel(FileModel):
    radius_m: float = Field(gt=0)
    spokes: int = 20


class Car(FileModel):
    name: str
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    doors: Literal["none", "all"] | Annotated[int, Field(ge=0)] = "all"
    colours: dict[str, Wheel] = Field(default_factory=dict)


def test_a_table_becomes_a_value_that_cannot_change():
    car = parse(Car, {"wheels": [{"radius_m": 1}]}, "car.toml", given={"name": "beetle"})
    assert (car.name, car.wheels[0].radius_m, car.wheels[0].spokes) == ("beetle", 1.0, 20)
    with pytest.raises(ValueError, match="frozen"):
        car.name = "other"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "a", "weels": []}, "unknown key 'weels'; did you mean 'wheels'?"),
        (
            {"name": "a", "wheels": [{"radius_m": 1, "spoke": 3}]},
            "unknown key 'wheels.0.spoke'; did you mean 'spokes'?",
        ),
        (
            {"name": "a", "spare": {"radius": 1}},
            "key 'spare.radius_m' is missing; unknown key 'spare.radius'; did you mean 'radius_m'?",
        ),
        (
            {"name": "a", "colours": {"red": {"radius_m": 1, "spoks": 1}}},
            "unknown key 'colours.red.spoks'; did you mean 'spokes'?",
        ),
        ({"name": "a", "engine": 1}, "unknown key 'engine'; known: colours, doors, name, spare, wheels"),
        (
            {"name": "a", "top-speed": 1},
            "unknown key 'top-speed'; known: colours, doors, name, spare, wheels",
        ),
        ({}, "key 'name' is missing"),
        ({"name": "a", "wheels": [{}]}, "key 'wheels.0.radius_m' is missing"),
        (
            {"name": "a", "doors": "some"},
            "doors = 'some': input should be 'none' or 'all'; doors = 'some': input should be a",
        ),
        ({"name": 3}, "name = 3: input should be a valid string"),
        (
            {"name": "a", "wheels": [{"radius_m": "wide"}]},
            "wheels.0.radius_m = 'wide': input should be a valid number",
        ),
        (
            {"name": "a", "wheels": [{"radius_m": -1}]},
            "wheels.0.radius_m = -1: input should be greater than 0",
        ),
    ],
)
def test_a_mistake_names_file_key_value_and_the_nearest_key(table, message):
    with pytest.raises(DataError) as refused:
        parse(Car, table, "car.toml")
    assert str(refused.value).startswith(f"car.toml: {message}")
    with pytest.raises(DataError) as refused:
        parse(Car, table, "car.toml", at="cars.mine")
    assert "'cars.mine." in str(refused.value) or "cars.mine." in str(refused.value)


def test_all_mistakes_are_said_at_once():
    with pytest.raises(DataError, match="key 'name' is missing; unknown key 'motor'"):
        parse(Car, {"motor": 1}, "car.toml")


def test_what_comes_from_elsewhere_may_not_be_set_in_the_table():
    with pytest.raises(DataError, match=r"car\.toml: key 'name' may not be set: it is 'beetle'"):
        parse(Car, {"name": "kombi"}, "car.toml", given={"name": "beetle"})


def test_broken_toml_names_file_and_line(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('title = "x"\nfolder = \n')
    with pytest.raises(DataError, match=r"a\.toml: is not valid TOML: .*line 2"):
        read_toml(path)
    path.write_bytes(b'title = "\xff"')
    with pytest.raises(DataError, match=r"a\.toml: cannot be read: .*utf-8"):
        read_toml(path)
    with pytest.raises(DataError, match=r"cannot be read"):
        read_toml(tmp_path)
    with pytest.raises(MissingDataError, match=r"none\.toml: no such file"):
        read_toml(tmp_path / "none.toml")
