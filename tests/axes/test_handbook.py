import imageio.v3 as imageio
from support.worlds import ROOT

from vla_bench.axes import handbook
from vla_bench.axes.factors import factors

DOCS = ROOT / "docs"


def test_the_page_is_that_of_the_factors_files():
    assert (DOCS / handbook.PAGE).read_text() == handbook.page(), "python -m vla_bench.axes.handbook docs"


def test_the_page_tells_every_level_of_every_quantity():
    page = handbook.page()
    for factor in factors().values():
        assert page.count(f"`{factor.id}`") == 1
        assert factor.changes in page
        for name, quantity in factor.quantities.items():
            numbers = [f"{value:g}" for value in (quantity.nominal, *quantity.levels)]
            assert f"| {name.replace('_', ' ')} ({quantity.unit}) | {' | '.join(numbers)} |" in page


def test_the_pictures_are_there_and_small():
    files = [DOCS / handbook.TASKS, DOCS / handbook.FACTORS]
    assert all(imageio.imread(file).std() > 20 for file in files)
    assert sum(file.stat().st_size for file in files) < 600_000


def test_the_handbook_is_written_with_its_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(handbook, "PATTERNS", ("visual.fog",))
    monkeypatch.setattr(handbook, "_task_rows", lambda: handbook._factor_rows())
    written = list(handbook.write(tmp_path))
    assert [file.name for file in written] == [handbook.PAGE, handbook.TASKS, handbook.FACTORS]
    assert all(file.stat().st_size > 1000 for file in written)
