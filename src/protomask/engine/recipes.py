"""Recipes: published settings of training runs that ship with the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protomask.engine.config import TrainConfig
from protomask.errors import ConfigError
from protomask.models.zoo import ZOO

RECIPES: Mapping[str, Path] = {
    path.stem: path for path in sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
}
"""YAML file of each recipe by its name."""


def recipe_of(model: str | None) -> str | None:
    """Name of the recipe that a model of the zoo is trained by unless another one is named; None for none."""
    return ZOO[model].recipe if model in ZOO else None


def with_recipe(recipe: str | Path | None, settings: Mapping[str, Any]) -> TrainConfig:
    """Settings of a run that begin with a recipe.

    Args:
        recipe: name of one that ships with the package, or a YAML file; that of the model (`recipe_of`) by default.
        settings: fields of `TrainConfig`, which come on top.

    Raises:
        ConfigError: no such recipe or field, or a wrong value.

    """
    if recipe is None:
        recipe = recipe_of(settings.get("model"))
    if recipe is None:
        return TrainConfig.from_dict(settings)
    path = RECIPES.get(str(recipe), Path(recipe))
    if not path.is_file():
        raise ConfigError(f"recipe: expected one of {', '.join(RECIPES)}, or a YAML file; got {recipe!r}")
    return TrainConfig.from_dict({**TrainConfig.read_yaml(path), **settings})
