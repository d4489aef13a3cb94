"""`bouton finetune`: train a model further on a box of one's own tissue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bouton.cli.train import Minutes, Out, Overrides, train
from bouton.errors import BoutonError, SpecError
from bouton.strict_yaml import Document


def command(
    model: Annotated[str, typer.Argument(help="Model to begin with: a shipped one by name, or a model's folder.")],
    data: Annotated[Path, typer.Option(help="The image, uint8: whatever bouton opens.")],
    labels: Annotated[
        Path | None, typer.Option(help="Cell ids, 0 = not labelled; also a zipped webKnossos annotation.")
    ] = None,
    layer: Annotated[
        list[str],
        typer.Option(metavar="HEAD=PATH[:DATASET]", help="Annotation of a head: clefts=em.h5:clefts. Repeatable."),
    ] = [],  # noqa: B006
    known: Annotated[
        Path | None, typer.Option(help="Volume that is 0 where nobody annotated, for sparse annotation.")
    ] = None,
    image_dataset: Annotated[str | None, typer.Option(help="Data set of the image in its file.")] = None,
    labels_dataset: Annotated[str | None, typer.Option(help="Data set, or webKnossos layer, of the labels.")] = None,
    box_zyx: Annotated[
        list[str],
        typer.Option(help="Train here: z0:z1,y0:y1,x0:x1. Repeatable. Without it: the annotation's boxes, or all."),
    ] = [],  # noqa: B006
    validate_zyx: Annotated[
        list[str], typer.Option(help="Hold this out and validate on it. Repeatable. Without it: the last fifth in z.")
    ] = [],  # noqa: B006
    voxel_size_nm: Annotated[str | None, typer.Option(help="z,y,x in nm, for an image that does not say.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Weight updates at most.")] = 1000,
    learning_rate: Annotated[float, typer.Option(help="Peak; a fifth of that of a training from nothing.")] = 2e-4,
    name: Annotated[str | None, typer.Option(help="Of the new model. Default: MODEL-finetuned.")] = None,
    out: Out = Path("runs/train"),
    overrides: Overrides = [],  # noqa: B006
    minutes: Minutes = float("inf"),
) -> None:
    """Train a model further on a box of your own tissue.

    All weights whose names and shapes fit are taken; what starts anew is told. Image normalisation, tiles and
    temperature stay those of the model. The last fifth of the box is held out: the weights with the best score there
    are the result, and training ends when the score no longer improves.

    OUT/NAME.yaml receives the whole training file: `bouton train OUT/NAME.yaml` repeats it, goes on with it, and is the
    place for finer settings. OUT/NAME/ receives the model, its report and the rest, as with `bouton train`. The new
    model's card names its parent, and its licence keeps the parent's restrictions.

    [bold]Examples[/bold]

      bouton finetune organelles-phantom --data em.zarr --labels labels.zarr --box-zyx 0:64,0:512,0:512

      bouton finetune affinity-fib25 --data em.h5 --image-dataset raw --labels annotation.zip

      bouton finetune organelles-phantom --data em.zarr --labels cells.zarr --known annotated.zarr --steps 2000
    """
    # torch takes seconds to import: only who trains waits for it
    from bouton.cli.finetune_plan import Choices, finetune_plan, write_plan
    from bouton.cli.training_files import LATEST

    if labels is None and not layer:
        raise SpecError("neither --labels nor --layer", expected="something to learn", fix="--labels cells.zarr")
    choices = Choices(
        model=model,
        data=data,
        labels=labels,
        layers=tuple(layer),
        known=known,
        image_dataset=image_dataset,
        labels_dataset=labels_dataset,
        boxes_zyx=tuple(box_zyx),
        validate_zyx=tuple(validate_zyx),
        voxel_size_nm=voxel_size_nm,
        steps=steps,
        learning_rate=learning_rate,
        name=name,
    )
    tree, told = finetune_plan(choices)
    for line in told:
        typer.echo(line)
    plan_file = out / f"{tree['name']}.yaml"
    # what --set changes stands in the file too, so that the file alone repeats the training
    known_before = plan_file.exists()
    write_plan(plan_file, Document(plan_file, tree, {}).with_overrides(overrides).tree)
    typer.echo(f"training file: {plan_file}")
    try:
        train(plan_file, out, [], minutes)
    except BoutonError:
        # a file that could not even begin must not stand in the way of the corrected command
        if not known_before and not (out / tree["name"] / LATEST).exists():
            plan_file.unlink(missing_ok=True)
        raise
