"""``bouton model``: look at models, check them, and take them out and in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bouton.cli.choices import size_option, voxels_option
from bouton.cli.model_page import show_card
from bouton.errors import SpecError
from bouton.learn.card import WEIGHTS, read_card
from bouton.learn.info import HEADS, Architecture, parameter_count
from bouton.learn.package import check_package, read_package, weights_of
from bouton.learn.shipped import check_sees_images, model_names, model_path
from bouton.volume import write_bytes, write_folder

if TYPE_CHECKING:
    from bouton.learn.exchange_onnx import Given

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Look at models, check them, and take them out and in."
)


def _names(incomplete: str) -> list[str]:
    return [name for name in model_names() if name.startswith(incomplete)]


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name of a model, or path to its folder.", autocompletion=_names)
]


@app.command("list")
def list_models() -> None:
    """List the models that come with bouton."""
    table = Table("model", "voxels (nm; z, y, x)", "outputs", "weights", "licence", box=None)
    for name in model_names():
        card = read_card(model_path(name))
        info = card.prediction
        size = " x ".join(f"{v:g}" for v in info.voxel_size_nm)
        count = f"{parameter_count(info.architecture):,}" if isinstance(info.architecture, Architecture) else ""
        table.add_row(name, size, ", ".join(info.heads), count, escape(card.weights.licence))
    Console().print(table)


@app.command("show")
def show(model: Model) -> None:
    """Show a model's card: what it is, what it was trained on, what it costs, how good it is."""
    show_card(check_package(model_path(model)), Console())


@app.command("check")
def check(model: Model) -> None:
    """Check a model without running it: card, hash, architecture, shapes and numbers of the weights."""
    path = model_path(model)
    card, data = read_package(path)
    if card.weights_file == WEIGHTS:
        tensors = weights_of(card, data, path / WEIGHTS)
        what = f"{len(tensors)} tensors, {sum(math.prod(each.shape) for each in tensors.values()):,} finite numbers"
    else:
        what = f"an ONNX graph of {len(data):,} bytes"
    typer.echo(f"{card.name}: sound; {what}, SHA-256 {card.weights.sha256[:16]}...")


@app.command("export")
def export(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write.")],
    to: Annotated[
        Literal["onnx", "bioimage"], typer.Option(help="onnx: one graph; bioimage: a zip for the BioImage Model Zoo.")
    ] = "onnx",
) -> None:
    """Write a model in a format that other programs read; `bouton model import` makes the same model of it again.

    [bold]Examples[/bold]

      bouton model export organelles-phantom phantom.onnx

      bouton model export organelles-phantom phantom.zip --to bioimage
    """
    if out.exists():
        raise SpecError(f"{out} exists already", expected="a new file", fix="choose another name, or remove it")
    path = model_path(model)
    check_sees_images(model, read_card(path).prediction)
    if to == "onnx":
        from bouton.learn.exchange_onnx import onnx_bytes

        content = onnx_bytes(path)
    else:
        from bouton.learn.exchange_bioimage import export_bioimage

        content = export_bioimage(path)
    write_bytes(out, content)
    typer.echo(f"{out}: {len(content):,} bytes")


@app.command("import")
def take_in(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .onnx file, or a zip of the BioImage Model Zoo.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the model to write.")],
    heads: Annotated[str, typer.Option(help=f"What its outputs are, in order: {', '.join(HEADS)}.")] = "",
    voxel_size_nm: Annotated[str | None, typer.Option(help="z,y,x of the images it was trained on.")] = None,
    tile_zyx: Annotated[str | None, typer.Option(help="Voxels it sees at once.")] = None,
    overlap_zyx: Annotated[str | None, typer.Option(help="Voxels that neighbouring tiles share.")] = None,
    multiple_zyx: Annotated[str | None, typer.Option(help="What a tile must be divisible by.")] = None,
    mean: Annotated[float | None, typer.Option(help="Images (0 to 255) enter as (image - mean) / std.")] = None,
    std: Annotated[float | None, typer.Option(help="255 for networks that expect 0 to 1.")] = None,
    output: Annotated[str, typer.Option(help="Which output, where the network has several.")] = "",
    licence: Annotated[str, typer.Option(help="Of the weights.")] = "not stated",
) -> None:
    """Make a model of an ONNX file or a zip of the BioImage Model Zoo; never of a pickle or of code.

    What bouton exported comes back as it was and needs no options. A network from elsewhere runs with OpenVINO
    (runtime: openvino), and what its file does not say has to be given.

    [bold]Examples[/bold]

      bouton model import phantom.zip my-phantom

      bouton model import theirs.onnx theirs --heads boundaries --voxel-size-nm 8,8,8 --tile-zyx 32,128,128 \
--mean 0 --std 255
    """
    from bouton.learn.exchange_onnx import Given

    if out.exists():
        raise SpecError(f"{out} exists already", expected="a new folder", fix="choose another name, or remove it")
    given = Given(
        name=out.name,
        licence=licence,
        heads=tuple(head.strip() for head in heads.split(",") if head.strip()),
        voxel_size_nm=size_option(voxel_size_nm),
        tile_zyx=voxels_option(tile_zyx, "--tile-zyx"),
        overlap_zyx=voxels_option(overlap_zyx, "--overlap-zyx", least=0),
        multiple=voxels_option(multiple_zyx, "--multiple-zyx"),
        mean=mean,
        std=std,
        output=output,
    )
    write_folder(out, _files(file, given))
    typer.echo(f"{out}: {check_package(out).name}")


def _files(file: Path, given: Given) -> dict[str, bytes]:
    from bouton.learn.exchange import import_file

    return import_file(file, given)
