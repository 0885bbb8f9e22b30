"""The paper's sizes, sharded: counted, and checked on the meta device. Not run on GPUs here."""

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import yaml

from openferret.train.processes.memory_plan import paper_config, plan_memory
from openferret.train.recipes.reading import load_recipe

LAUNCH = Path(str(resources.files("openferret.train.processes") / "launch"))


@pytest.mark.parametrize(("name", "parameters"), [("ferret-7b", 7.09e9), ("ferret-13b", 13.37e9)])
def test_memory_of_each_process(name, parameters):
    plan = plan_memory(paper_config(name), load_recipe(name), 8)
    assert plan.parameters == pytest.approx(parameters, rel=0.01)
    assert plan.moments == pytest.approx(plan.trained)  # two of four bytes, over eight
    assert 10e9 < plan.total < 40e9
    assert plan_memory(paper_config(name), load_recipe(name), 16).weights == plan.weights / 2


SHARDED = """
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.train.objectives.language import LanguageObjective
from openferret.train.processes.memory_plan import paper_config
from openferret.train.objectives.module import TrainingModule
from openferret.train.processes.sharding import shard

dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
with torch.device("meta"):
    model = FerretForConditionalGeneration(paper_config("ferret-7b"))
module = TrainingModule(model, (LanguageObjective(),), {}, half=True)
whole = sum(one.numel() for one in module.parameters())
shard(module, init_device_mesh("cpu", (8,)), half=True)
assert all(isinstance(one, DTensor) for one in module.parameters())
own = sum(one.to_local().numel() for one in module.parameters())
print(whole, own)
"""


ACCELERATED = """
import sys, types, torch, torch.distributed as dist
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from openferret.kit.assemble import ensure_kit
from openferret.model.configuration import FerretConfig
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.train.objectives.language import LanguageObjective
from openferret.train.objectives.module import TrainingModule
from openferret.train.weights.parts import widen_scalars

dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
with torch.device("meta"):
    model = FerretForConditionalGeneration(FerretConfig.from_pretrained(ensure_kit()))
if "widened" in sys.argv:
    widen_scalars(model)
module = TrainingModule(model, (LanguageObjective(),), {}, half=True)
plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap",
    transformer_cls_names_to_wrap=["LlamaDecoderLayer"], reshard_after_forward=True, cpu_ram_efficient_loading=False)
mesh = init_device_mesh("cpu", (8,), mesh_dim_names=("dp_shard",))
accelerator = types.SimpleNamespace(state=types.SimpleNamespace(fsdp_plugin=plugin), torch_device_mesh=mesh,
    parallelism_config=types.SimpleNamespace(fsdp_dim_names=["dp_shard"]), mixed_precision="bf16",
    device=torch.device("meta"), is_main_process=False)
fsdp2_prepare_model(accelerator, module)
whole = sum(one.numel() for one in module.parameters())
assert all(isinstance(one, DTensor) for one in module.parameters())
print(whole, sum(one.to_local().numel() for one in module.parameters()))
"""


@pytest.mark.slow
def test_kit_is_sharded_by_accelerates_fsdp2_on_the_meta_device():
    def prepare(*words):
        return subprocess.run(
            [sys.executable, "-c", ACCELERATED, *words], capture_output=True, text=True, check=False
        )

    assert "scalar" in prepare().stderr  # why they are widened
    done = prepare("widened")
    assert not done.returncode, done.stderr
    whole, own = map(int, done.stdout.split()[-2:])
    assert whole > 1.4e8
    assert own == pytest.approx(whole / 8, rel=0.01)


@pytest.mark.slow
def test_7b_on_eight_processes_holds_an_eighth_each():
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, check=True)
    whole, own = map(int, done.stdout.split()[-2:])
    assert whole > 7e9
    assert own == pytest.approx(whole / 8, rel=0.001)


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.yaml")), ids=lambda path: path.stem)
def test_launch_files_are_accelerates(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    content = yaml.safe_load(path.read_text())
    assert config.num_processes == content["num_processes"]
    recipe = load_recipe("ferret-13b" if "2x8" in path.stem else "ferret-7b")
    if content["num_processes"] > 2:
        assert recipe.batch.accumulation(content["num_processes"]) >= 1
        assert "not run here" in path.read_text().lower()
    if "fsdp" in path.stem:
        from accelerate import FullyShardedDataParallelPlugin

        own = config.fsdp_config
        names = own["fsdp_transformer_layer_cls_to_wrap"].split(",")
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=own["fsdp_version"],
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=names,
            reshard_after_forward=own["fsdp_reshard_after_forward"],
            state_dict_type=own["fsdp_state_dict_type"],
        )
        import torch

        from openferret.model.modeling import FerretForConditionalGeneration

        with torch.device("meta"):
            model = FerretForConditionalGeneration(paper_config("ferret-7b"))
        plugin.set_auto_wrap_policy(model)  # raises where the model has no layer of that name
        assert plugin.auto_wrap_policy is not None
