"""A run -> the state of Neuroglancer that shows it. Everything that Neuroglancer sees is (x, y, z)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bouton.geometry import NM, Box, to_xyz
from bouton.volume.run_folder import Run
from bouton.volume.run_layers import RunLayer, RunTable, main_labels, run_layers, run_tables
from bouton.volume.synapse_columns import POST_COLUMNS, PRE_COLUMNS
from bouton.volume.tables import table_columns

RGB_SHADER = """#uicontrol float brightness slider(min=-1, max=1)
#uicontrol float contrast slider(min=-3, max=3)
float value(int c) { return (toNormalized(getDataValue(c)) + brightness) * exp(contrast); }
void main() { emitRGB(vec3(value(0), value(1), value(2))); }
"""
HEAT_SHADER = """#uicontrol vec3 color color(default="%s")
void main() { float v = toNormalized(getDataValue(0)); emitRGBA(vec4(color, v)); }
"""
MASK_SHADER = """#uicontrol vec3 color color(default="#e0a030")
void main() { emitRGBA(vec4(color, float(toRaw(getDataValue(0))) > 0.0 ? 0.45 : 0.0)); }
"""
LINE_SHADER = """#uicontrol vec3 excitatory color(default="#ffd23f")
#uicontrol vec3 inhibitory color(default="#4cc9f0")
#uicontrol vec3 unknown color(default="#ffffff")
#uicontrol float least_score slider(min=0, max=1, default=0)
void main() {
  if (prop_score() < least_score) discard;
  vec3 color = prop_type() == 1u ? excitatory : prop_type() == 2u ? inhibitory : unknown;
  setColor(color);
  setLineWidth(3.0);
  setEndpointMarkerSize(3.0, 9.0);
  setEndpointMarkerColor(vec4(0.2, 1.0, 0.4, 0.9), vec4(1.0, 0.25, 0.4, 0.9));
}
"""
FINAL_LABELS = "segmentation"
LABELS_LOOK = {"type": "segmentation", "selectedAlpha": 0.35, "notSelectedAlpha": 0.1}
BOX_COLOUR = "#ff4fb4"
"""Neuroglancer draws the bounds of data in yellow."""
BOX_MARGIN = 1.8
_GROUPS = {"data": "sources", "cut": "cuts", "mapping": "mappings"}


@dataclass(frozen=True)
class Place:
    """Where the viewer looks.

    Attributes
    ----------
    at_nm : (z, y, x), optional
        None means the middle of the run.
    ids : tuple of int
        Segments to select.
    layers : tuple of str
        Names of the layers to switch on, lines of synapses besides; none means the usual ones.
    box : Box, optional
        Voxels to draw a box around.
    lines : bool
        Whether lines of synapses are switched on.
    """

    at_nm: NM | None = None
    ids: tuple[int, ...] = ()
    layers: tuple[str, ...] = ()
    box: Box | None = None
    lines: bool = True


@dataclass(frozen=True)
class MappedLayer:
    """Fragments shown as segments: a layer that the server relabels, and the ids to select in it."""

    layer: RunLayer
    ids: tuple[int, ...] = ()


def neuroglancer_state(
    run: Run, origin: str, place: Place = Place(), mapped: Sequence[MappedLayer] = ()
) -> dict[str, Any]:
    """Return Neuroglancer's state for a run.

    Parameters
    ----------
    run : Run
    origin : str
        Where the server that answers for the data stands: ``http://127.0.0.1:8765``.
    place : Place, optional
    mapped : sequence of MappedLayer
        Further layers; the last is shown in place of the run's own labels.

    Returns
    -------
    dict
        Plain JSON types; positions are x, y, z in voxels of ``dimensions`` (metres), ids are strings.
    """
    layers = run_layers(run)
    tables = [table for table in run_tables(run) if _holds_lines(run, table)]
    extent = _extent(run, layers)
    shown = [_layer(layer, origin, layers, place) for layer in layers]
    shown = _with_mapped(shown, mapped, origin)
    lines = [_synapse_layer(table, origin, layers, tables) for table in tables]
    shown += lines if place.lines else [state | {"visible": False} for state in lines]
    shown += [_box_layer(place.box, [state["name"] for state in shown])] if place.box else []
    size_nm = _size_nm(extent, run)
    seen_nm = [BOX_MARGIN * side for side in _size_nm(place.box, run)] if place.box else size_nm
    return {
        "title": f"bouton: {run.folder.name}",
        "dimensions": {a: [s * 1e-9, "m"] for a, s in zip("xyz", to_xyz(run.voxel_size_nm), strict=True)},
        "position": _position(run, extent, place),
        "crossSectionScale": max(seen_nm[1], seen_nm[2]) / min(run.voxel_size_nm) / 500,
        "projectionScale": 1.4 * max(size_nm) / min(run.voxel_size_nm),
        "layers": shown,
        "selectedLayer": {"layer": mapped[-1].layer.name if mapped else _selected(layers), "visible": False},
        "layout": "4panel",
        "showSlices": True,
    }


def layer_url(ref: str) -> str:
    """Return the path under which the server offers a layer or table.

    ``ref`` is ``data:name``, ``step.output``, or of a mapped layer ``cut:threshold`` or ``mapping:name``.
    """
    kind, colon, name = ref.partition(":")
    group, name = (_GROUPS[kind], name) if colon else ("steps", ref)
    return f"/data/{group}/{quote(name, safe='')}"


def _position(run: Run, extent: Box, place: Place) -> list[float]:
    if place.at_nm is not None:
        return list(to_xyz([a / s for a, s in zip(place.at_nm, run.voxel_size_nm, strict=True)]))
    return list(to_xyz([(a + b) // 2 + 0.5 for a, b in zip(extent.start, extent.stop, strict=True)]))


def _size_nm(box: Box, run: Run) -> list[float]:
    return [n * s for n, s in zip(box.shape, run.voxel_size_nm, strict=True)]


def _extent(run: Run, layers: Sequence[RunLayer]) -> Box:
    """Return the box of what the run computed; of its sources where it computed nothing."""
    computed = [layer.bounds for layer in layers if not layer.ref.startswith("data:")]
    boxes = computed or [layer.bounds for layer in layers] or [Box.of_shape(run.shape)]
    extent = boxes[0]
    for box in boxes[1:]:
        extent = extent | box
    return extent


def _selected(layers: Sequence[RunLayer]) -> str:
    main = main_labels(layers) or next((layer for layer in layers if layer.kind == "labels"), None)
    return main.name if main else layers[-1].name if layers else ""


def _layer(layer: RunLayer, origin: str, layers: Sequence[RunLayer], place: Place) -> dict[str, Any]:
    state: dict[str, Any] = {
        "name": layer.name,
        "source": f"precomputed://{origin}{layer_url(layer.ref)}",
        "tab": "source",
        "visible": layer.name in place.layers if place.layers else _visible(layer, layers),
    }
    if layer.kind == "labels":
        state |= LABELS_LOOK
        if layer.name == _selected(layers) and place.ids:
            state["segments"] = [str(i) for i in place.ids]
        return state
    state["type"] = "image"
    return state | _image_look(layer)


def _box_layer(box: Box, taken: Sequence[str]) -> dict[str, Any]:
    corners = {"pointA": list(to_xyz(box.start)), "pointB": list(to_xyz(box.stop))}
    return {
        "type": "annotation",
        "name": _unique("box", taken, "to look at"),
        "source": "local://annotations",
        "tab": "annotations",
        "annotationColor": BOX_COLOUR,
        "annotations": [{"type": "axis_aligned_bounding_box", "id": "box", **corners}],
    }


def _with_mapped(shown: list[dict[str, Any]], mapped: Sequence[MappedLayer], origin: str) -> list[dict[str, Any]]:
    """Return layers' states with the mapped ones behind; the last of these hides all other labels."""
    if not mapped:
        return shown
    found = [state | {"visible": False} if state["type"] == LABELS_LOOK["type"] else state for state in shown]
    for one in mapped:
        name = _unique(one.layer.name, [state["name"] for state in found], "mapping")
        state = {"name": name, "source": f"precomputed://{origin}{layer_url(one.layer.ref)}", "tab": "source"}
        found.append(state | LABELS_LOOK | {"visible": one == mapped[-1], "segments": [str(i) for i in one.ids]})
    return found


def _image_look(layer: RunLayer) -> dict[str, Any]:
    channels = layer.channels or 1
    if layer.kind == "mask":
        return {"shader": MASK_SHADER, "blend": "default"}
    if channels >= 3:
        return {"shader": RGB_SHADER, "opacity": 1.0}
    if layer.kind in ("probability", "affinities"):
        return {"shader": HEAT_SHADER % "#ff5050", "blend": "additive", "opacity": 1.0}
    return {"opacity": 1.0}


def _visible(layer: RunLayer, layers: Sequence[RunLayer]) -> bool:
    """Show the first image and the main labels."""
    if layer.kind == "image":
        return layer == next(other for other in layers if other.kind == "image")
    return layer.kind == "labels" and layer.name == _selected(layers)


def _holds_lines(run: Run, table: RunTable) -> bool:
    return table.output == "synapses" and {*PRE_COLUMNS, *POST_COLUMNS} <= set(table_columns(run.path(table.ref)))


def _synapse_layer(
    table: RunTable, origin: str, layers: Sequence[RunLayer], tables: Sequence[RunTable]
) -> dict[str, Any]:
    state: dict[str, Any] = {
        "type": "annotation",
        "name": _unique(table.name, [layer.name for layer in layers], "lines"),
        "source": f"precomputed://{origin}{layer_url(table.ref)}",
        "tab": "annotations",
        "shader": LINE_SHADER,
        "visible": table == tables[-1],
    }
    labels = _labels_of(table, layers)
    if labels is not None:
        state["linkedSegmentationLayer"] = {"pre": labels.name, "post": labels.name}
        state["filterBySegmentation"] = []
    return state


def _labels_of(table: RunTable, layers: Sequence[RunLayer]) -> RunLayer | None:
    """Return the labels whose ids the table's ``pre_id`` and ``post_id`` are."""
    own = [layer for layer in layers if layer.kind == "labels" and layer.ref.startswith(f"{table.step}.")]
    truth = [layer for layer in own if layer.is_truth]
    final = [layer for layer in layers if layer.output == FINAL_LABELS]
    return (truth or final)[-1] if truth or final else None


def _unique(name: str, taken: Sequence[str], what: str) -> str:
    return f"{name} {what}" if name in taken else name
