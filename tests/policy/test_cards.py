import ast
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from support.worlds import environment, python, vla_bench, write_policy

from vla_bench import catalog
from vla_bench.errors import ConventionError, DataError, MissingCapabilityError, UnknownNameError
from vla_bench.policy.cards import load_policy, read_card

SHIPPED = sorted(catalog.policy_files())
STANDS = """
import numpy as np
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

class Made:
    spec = PolicySpec()
    def __init__(self, card, precision):
        self.card, self.precision = card, precision
    def reset(self, instruction, seed):
        pass
    def act(self, observations):
        return ActionChunk(np.zeros((1, 7)))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A further folder of cards, whose modules can be imported."""
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write_card(folder: Path, name: str, /, **changes: object) -> None:
    keys = {
        "title": "t",
        "family": "own",
        "adapter": "vla_bench.policy.scripted.simple:Noop",
        "licence": "MIT",
    }
    lines = [
        f"{key} = {json.dumps(value)}" for key, value in {**keys, **changes}.items() if value is not None
    ]
    (folder / f"{name}.toml").write_text("\n".join(lines))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_card_says_what_it_is(name):
    card = read_card(name)
    assert (card.name, card.source) == (name, catalog.policy_files()[name])
    assert card.title
    assert card.licence
    assert card.precisions
    assert card.chunk_executed <= card.chunk_predicted
    if card.checkpoint.repo is not None:
        assert card.checkpoint.revision, "a hub repository without a revision is not one checkpoint"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_adapter_is_there_without_loading_it(name):
    """No package of the model is needed to see that the module exists and defines the factory."""
    module, _, factory = read_card(name).adapter.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    assert factory in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def test_scripted_policies_load_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from vla_bench.policy.cards import load_policy\n"
        "for name in ('noop', 'random', 'expert'): load_policy(name)\n"
        "print('mujoco' in sys.modules)"
    )
    ended = python(code)
    assert ended.stdout.strip() == "False", ended.stderr


def test_a_card_of_ones_own_is_loaded_with_what_it_says(own):
    write_policy(own, "stands", STANDS, precisions=["fp32", "bf16"])
    made = load_policy("stands", "bf16")
    assert (made.card.name, made.precision) == ("stands", "bf16")
    assert np.array_equal(made.act([]).actions, np.zeros((1, 7)))
    assert load_policy("noop").spec == made.spec, "the shipped ones stay"


def test_an_argument_sets_the_option_that_the_card_names(own):
    write_card(own, "takes", argument="file")
    with (own / "takes.toml").open("a") as card:
        card.write('\n[options]\nfile = "default"\nother = 1\n')
    assert read_card("takes").options == {"file": "default", "other": 1}
    assert read_card("takes:a:b.npz").options == {"file": "a:b.npz", "other": 1}
    with pytest.raises(ConventionError, match="policy 'noop' takes no argument, got 'x'"):
        read_card("noop:x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licens": "MIT"}, ": unknown key 'licens'; did you mean 'licence'"),
        ({"licence": None}, ": key 'licence' is missing"),
        ({"adapter": "no factory"}, ": adapter = 'no factory': string should match pattern"),
        ({"chunk_executed": 0}, ": chunk_executed = 0: input should be greater than 0"),
        ({"blind": "perhaps"}, ": blind = 'perhaps': input should be a valid boolean"),
        ({"name": "other"}, ": key 'name' may not be set: it is 'mine'"),
        ({"precisions": "fp32"}, ": precisions = 'fp32': input should be a valid tuple"),
    ],
)
def test_a_mistake_in_a_card_names_file_key_and_the_nearest(own, changes, message):
    write_card(own, "mine", **changes)
    with pytest.raises(DataError, match=rf"mine\.toml{message}"):
        read_card("mine")


def test_what_cannot_be_loaded_is_said_with_what_to_do(own):
    with pytest.raises(UnknownNameError, match="unknown policy 'nop'; did you mean 'noop'"):
        load_policy("nop")
    with pytest.raises(MissingCapabilityError, match="policy 'noop' runs at fp32, not at 'int3'"):
        load_policy("noop", "int3")
    write_card(own, "gone", adapter="vla_bench.policy.gone:Policy")
    with pytest.raises(
        DataError, match=r"gone\.toml: adapter module 'vla_bench\.policy\.gone' does not exist"
    ):
        load_policy("gone")
    write_card(own, "misspelt", adapter="vla_bench.policy.scripted.simple:Nop")
    with pytest.raises(UnknownNameError, match=r"misspelt\.toml: unknown adapter 'Nop'; did you mean 'Noop'"):
        load_policy("misspelt")
    write_policy(own, "needs", "import needs_policy_weights\n" + STANDS)
    with pytest.raises(
        MissingCapabilityError, match=r"policy 'needs' needs the package 'needs_policy_weights': pip"
    ):
        load_policy("needs")


def test_the_list_shows_licence_and_precisions_of_every_card():
    ended = vla_bench("list", "policies", "--json")
    rows = {row["policy"].partition(":")[0]: row for row in json.loads(ended.stdout)}
    assert set(SHIPPED) <= set(rows)
    for name in SHIPPED:
        card = read_card(name)
        assert (rows[name]["licence"], rows[name]["precisions"]) == (card.licence, " ".join(card.precisions))


def test_a_broken_card_is_named_by_the_list(own):
    (own / "broken.toml").write_text("title = ")
    ended = python(
        "import sys; sys.argv = ['vla-bench', 'list', 'policies']\nfrom vla_bench.cli import main; main()",
        environment(own),
    )
    assert ended.returncode == 2
    assert "broken.toml: is not valid TOML" in ended.stderr
