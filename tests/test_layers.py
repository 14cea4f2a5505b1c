"""Imports point one way: cli → run, learn → {axes → sim, policy} → types; cli → account → run.records.

`account.statistics` is arithmetic on arrays: `run` may use it too, to plan and to stop.
"""

import ast
import json

import pytest
from support.worlds import ROOT, python

PACKAGE = ROOT / "vla_bench"
BASE = {"", "bddl", "catalog", "config", "errors", "seeding", "sexpr", "spawning", "types"}
# layer → the layers that it may import, besides itself and the base
LAYERS = {
    "base": set(),
    "sim": set(),
    "policy": set(),
    "axes": {"sim"},
    "envs": {"axes", "sim"},
    "run.records": set(),
    "lerobot": {"policy"},
    "run": {"run.records", "account.statistics", "lerobot", "axes", "sim", "policy"},
    "learn": {"lerobot", "axes", "sim", "policy"},
    "account.statistics": set(),
    "account": {"account.statistics", "run.records"},
    "cli": {
        "listing", "doctor", "account", "account.statistics", "run", "run.records", "learn", "axes", "sim",
        "policy",
    },
    "listing": {"run", "policy", "axes"},
    "doctor": {"run", "run.records", "learn", "axes", "sim", "policy"},
}  # fmt: skip
FOREIGN = {
    "base": {
        "mujoco",
        "gymnasium",
        "torch",
        "transformers",
        "pandas",
        "scipy",
        "matplotlib",
        "imageio",
        "numba",
    },
    "sim": {"torch", "transformers", "pandas"},
    "policy": {"mujoco", "gymnasium"},
    "axes": {"torch", "transformers"},
    "run.records": {"mujoco", "gymnasium", "torch", "transformers"},
    "account.statistics": {"mujoco", "gymnasium", "torch", "transformers", "imageio"},
    "account": {"mujoco", "gymnasium", "torch", "transformers", "imageio"},
}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def layer_of(dotted: str) -> str:
    """The layer of a module's name below vla_bench."""
    parts = dotted.split(".")
    if parts[0] in BASE:
        return "base"
    inner = ".".join(parts[:2])
    return inner if inner in LAYERS else parts[0]


def imports(source: str) -> set[str]:
    """Every module that the source imports anywhere in it, also inside functions and under conditions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from vla_bench.run import records` imports vla_bench.run.records
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(module: str, source: str) -> list[str]:
    """Imports of a module that its layer may not have."""
    layer = layer_of(module)
    allowed, foreign = {"base", layer, *LAYERS[layer]}, FOREIGN.get(layer, ())

    def is_wrong(name: str) -> bool:
        package, _, rest = name.partition(".")
        if package != "vla_bench":
            return package in foreign
        return rest != "__version__" and layer_of(rest) not in allowed

    return sorted(filter(is_wrong, imports(source)))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_imports_only_what_lies_below_it(path):
    module = ".".join(path.with_suffix("").parts).removesuffix("__init__").removesuffix(".")
    assert violations(module, (PACKAGE / path).read_text()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("sim.env", "from vla_bench.policy.base import Policy"),
        ("policy.cards", "import vla_bench.sim.scene"),
        ("account.tables", "def f():\n    import mujoco"),
        ("account.tables", "from vla_bench.run.plan import Plan"),
        ("run.records.schema", "from vla_bench.run.plan import Plan"),
        ("run.stopping", "from vla_bench.account.cells import Cell"),
        ("account.statistics.rates", "from vla_bench.run.records import Record"),
        ("errors", "from vla_bench.sim import scene"),
        ("axes.cell", "from vla_bench.run import plan"),
    ],
)
def test_an_import_that_points_up_is_found(module, line):
    assert violations(module, line)


def test_there_is_one_package_and_no_importable_data():
    for folder in ("tasks", "policies", "results"):
        assert not list((ROOT / folder).rglob("__init__.py"))
    assert len(MODULES) > 30


HEAVY = (
    "mujoco", "torch", "gymnasium", "pandas", "matplotlib", "statsmodels", "scipy", "numba", "imageio",
    "transformers", "huggingface_hub", "OpenGL",
)  # fmt: skip
RUN_QUIETLY = """
import contextlib, io, json, sys
sys.argv = ["vla-bench", *json.loads({arguments!r})]
with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
        {call}
    except SystemExit as stop:
        assert not stop.code, stop.code
print([name for name in {heavy!r} if name in sys.modules])
"""


@pytest.mark.parametrize(
    "arguments",
    [
        None, ["--help"], ["--version"], ["list"], ["list", "tasks"], ["list", "policies"],
        ["list", "studies", "--json"], ["plan", "--suite", "bridge_base", "--policy", "noop,random"],
        ["plan", "--suite", "libero_90", "--policy", "noop", "--json"], ["run", "--help"],
    ],
    ids=lambda arguments: "import" if arguments is None else " ".join(arguments[:2]),
)  # fmt: skip
def test_what_only_looks_at_files_loads_nothing_heavy(arguments):
    call = "import vla_bench" if arguments is None else "from vla_bench.cli import main; main()"
    code = RUN_QUIETLY.format(arguments=json.dumps(arguments or []), call=call, heavy=HEAVY)
    ended = python(code)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "[]"
