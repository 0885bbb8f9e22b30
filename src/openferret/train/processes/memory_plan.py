"""How much memory each process of a sharded run needs, added up on the meta device: no weight is made.

    python -m openferret.train.processes.memory_plan ferret-7b --processes 8 [--set a.b=c]

Counted: weights, gradients and AdamW's two moments in float32, sharded evenly, and the two largest layers that are
gathered in bfloat16 at a time. Activations are estimated: with `activation_checkpointing` the input of each layer and
the inside of one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from transformers import CLIPVisionConfig, LlamaConfig

from openferret.model.configuration import FerretConfig
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.train.recipes.reading import load_recipe
from openferret.train.recipes.recipe import TrainingRecipe
from openferret.train.weights.parts import choose_trained

_SIZES = {
    "ferret-7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "ferret-13b": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
}
_VOCABULARY = 32003
_FULL, _HALF = 4, 2  # bytes of a number
_INSIDE = 24  # numbers of the hidden size that one layer keeps for each token while it is computed again


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of one process.

    Attributes:
        parameters: numbers of the whole model.
        trained: numbers that are trained.
        weights: float32, sharded.
        gradients: float32, sharded.
        moments: AdamW's, float32, sharded.
        gathered: the largest layer and the parts that are not layers, whole, in bfloat16.
        activations: estimated.
    """

    parameters: int
    trained: int
    weights: float
    gradients: float
    moments: float
    gathered: float
    activations: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.moments + self.gathered + self.activations


def paper_config(name: str) -> FerretConfig:
    """The paper's model by the name of its recipe: LLaMA of 7B or 13B, CLIP ViT-L/14 at 336 pixels."""
    text = LlamaConfig(vocab_size=_VOCABULARY, max_position_embeddings=2048, **_SIZES[name])
    default = FerretConfig()
    return FerretConfig(vision_config=CLIPVisionConfig(**default.vision_config.to_dict()), text_config=text)


def plan_memory(config: FerretConfig, recipe: TrainingRecipe, processes: int) -> MemoryPlan:
    """What each of `processes` needs for a model of that configuration.

    Args:
        config: of the model.
        recipe: what is trained, and how much goes through at once.
        processes: GPUs, over all machines.
    """
    with torch.device("meta"):
        model = FerretForConditionalGeneration(config)
    trained = sum(choose_trained(model, recipe).values())
    parameters = sum(one.numel() for one in model.parameters())
    layers = [sum(one.numel() for one in layer.parameters()) for layer in model.model.language_model.layers]
    # What is no layer is gathered as one, and stays for the whole step.
    rest = parameters - sum(layers)
    tokens = recipe.batch.micro * recipe.data.max_length
    kept = config.text_config.num_hidden_layers if recipe.activation_checkpointing else 0
    inside = _INSIDE * (1 if kept else config.text_config.num_hidden_layers)
    return MemoryPlan(
        parameters=parameters,
        trained=trained,
        weights=_FULL * parameters / processes,
        gradients=_FULL * trained / processes,
        moments=2 * _FULL * trained / processes,
        gathered=_HALF * (2 * max(layers) + rest),
        activations=_HALF * tokens * config.text_config.hidden_size * (kept + inside),
    )


def main() -> None:
    """Prints the sum for one of the paper's recipes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", choices=sorted(_SIZES))
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="A.B=C")
    options = parser.parse_args()
    plan = plan_memory(
        paper_config(options.recipe), load_recipe(options.recipe, options.settings), options.processes
    )
    print(f"{plan.parameters / 1e9:.2f} G weights, {plan.trained / 1e9:.2f} G trained; GB on each GPU:")
    for name in ("weights", "gradients", "moments", "gathered", "activations", "total"):
        print(f"{name:12} {getattr(plan, name) / 1e9:6.1f}")


if __name__ == "__main__":
    main()
