"""``bouton train-types``: a classifier of synapses, trained on runs whose truth is known."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bouton.errors import DataError, SpecError

if TYPE_CHECKING:
    from bouton.learn.synapse_types import Question, Score, Source, TypesModel
    from bouton.volume.run_folder import Run

QUESTIONS = {"type": ("excitatory", "inhibitory"), "target": ("spine", "shaft", "soma")}
_SHAPE = (
    "thickness_nm", "trunk_nm", "trunk_at_nm", "volume_150_um3", "volume_300_um3", "volume_450_um3", "volume_600_um3",
    "volume_900_um3", "neck_um2", "beyond_um2", "first_300_um2", "first_450_um2", "first_600_um2", "second_300_um2",
    "second_450_um2", "second_600_um2", "length_nm", "exits", "elongation", "flatness", "seen", "mitochondria_post",
    "soma_post",
)  # fmt: skip
_CLEFT = (
    "contact_um2", "contact_flat", "cleft_um3", "thickness_pre_nm", "volume_pre_um3", "mitochondria_pre",
    "vesicles_near", "vesicles_pre", "cleft_mean", "excitatory",
)  # fmt: skip
ASKED = {"target": _SHAPE, "type": (*_CLEFT, *_SHAPE)}
USES = ("train", "calibrate", "test")
MATCH_NM = 500.0


@dataclass(frozen=True)
class Labelled:
    """The synapses of one run: what they were used for, their features, and their true classes; ``""`` is unknown."""

    name: str
    use: str
    features: Mapping[str, np.ndarray]
    classes: Mapping[str, np.ndarray]


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder: the model.")],
    train: Annotated[list[Path], typer.Option(metavar="RUN", help="Run to train on; may be given several times.")],
    calibrate: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Run to calibrate probabilities on; may be repeated.")
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Run to test on, for the card; may be repeated.")
    ] = None,
    truth: Annotated[str, typer.Option(help="True synapses: STEP.OUTPUT in each run.")] = "tissue.synapses",
    truth_segmentation: Annotated[str, typer.Option(help="True neurons: STEP.OUTPUT.")] = "tissue.neuron_ids",
    description: Annotated[
        str, typer.Option(help="A sentence for the model's card: which tissue, stain and voxel size it learned from.")
    ] = "",
    limits: Annotated[
        str, typer.Option(help="A sentence for the card: where the model is not to be used, or was not tested.")
    ] = "",
    licence: Annotated[
        str, typer.Option(help="A word for the card: under which licence others may use the model, such as CC-BY-4.0.")
    ] = "",
    seed: Annotated[
        int,
        typer.Option(min=0, help="Of the random choices in training the forests."),
    ] = 0,
) -> None:
    """Train the forests that stage synapse_types decides with: excitatory or inhibitory, spine, shaft or soma.

    Every run holds a step of stage synapse_types (its model does not matter: none will do) whose features are learned
    from. Where its synapses bear no column target, each is matched to the nearest true one between the same neurons.
    Needs scikit-learn.

    [bold]Example[/bold]

      bouton train-types mine --train runs/a --train runs/b --calibrate runs/c --test runs/d
    """
    from bouton.learn.synapse_types import types_files
    from bouton.volume.files import write_folder

    if out.exists():
        raise DataError("exists already", where=str(out), expected="a new folder", fix="give another, or remove it")
    given = {"train": train, "calibrate": calibrate or [], "test": test or []}
    rows = [read_labelled(path, use, truth, truth_segmentation) for use in USES for path in given[use]]
    params = _shared_params([path for use in USES for path in given[use]])
    words = [word for each in rows for word in (f"--{each.use}", f"runs/{each.name}")]
    told = {
        "name": out.name, "description": description, "limits": limits, "licence": licence, "seed": seed,
        "command": shlex.join(["bouton", "train-types", out.name, *words]), **params,
    }  # fmt: skip
    model = fit_model(rows, told)
    write_folder(out, types_files(model.card, model.classifiers))
    _show(model)


def fit_model(rows: Sequence[Labelled], told: Mapping[str, object]) -> TypesModel:
    """Return a model trained, calibrated and tested on rows; ``told`` are further entries of its card."""
    from bouton.learn.synapse_types import TypesCard, TypesModel

    questions, classifiers = {}, {}
    for question in QUESTIONS:
        found = _fit(question, rows, int(str(told["seed"])))
        if found:
            questions[question], classifiers[question] = found
    if not questions:
        raise DataError(
            "no question can be learned from these runs", expected="matched synapses of two classes or more",
            fix="give more runs, or check --truth",
        )  # fmt: skip
    data = tuple(_source(each) for each in rows)
    card = TypesCard.model_validate({**told, "questions": questions, "sha256": "0" * 64, "data": data})
    model = TypesModel(card, classifiers)
    scores = tuple(score for question in questions for score in _scores(model, question, rows))
    return TypesModel(card.model_copy(update={"scores": scores}), classifiers)


def _fit(question: str, rows: Sequence[Labelled], seed: int) -> tuple[Question, object] | None:
    """Return the question and its classifier; None where the rows know one class at most."""
    from dataclasses import replace

    from bouton.learn.synapse_types import Question
    from bouton.learn.synapse_types_training import SETTINGS, Rows, fit_classifier

    trained = [each for each in rows if each.use == "train"]
    # a feature that no training run could measure
    names = [name for name in ASKED[question] if any(np.isfinite(each.features[name]).any() for each in trained)]
    parts = {use: _stack([each for each in rows if each.use == use], question, names) for use in USES}
    classes = [name for name in QUESTIONS[question] if np.any(parts["train"][1] == name)]
    if len(classes) < 2:
        return None
    numbered = {}
    for use, (features, labels) in parts.items():
        known = np.isin(labels, classes)
        numbers = np.array([classes.index(label) for label in labels[known].tolist()], dtype=np.int64)
        numbered[use] = Rows(np.ascontiguousarray(features[known]), numbers)
    classifier, method = fit_classifier(numbered["train"], numbered["calibrate"], replace(SETTINGS, seed=seed))
    return Question(classes=tuple(classes), features=tuple(names), calibration=method), classifier


def _stack(rows: Sequence[Labelled], question: str, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return features float32 (n, k) and class names (n,) of the rows where all of these are known."""
    features = [np.stack([each.features[name] for name in names], axis=1) for each in rows]
    labels = [each.classes[question] for each in rows]
    whole = np.concatenate([np.zeros((0, len(names))), *features]).astype(np.float32)
    found = np.concatenate([np.zeros(0, object), *labels]).astype(str)
    known = np.isfinite(whole).all(axis=1) & (found != "")
    return whole[known], found[known]


def read_labelled(
    path: Path, use: str, truth: str = "tissue.synapses", truth_segmentation: str = "tissue.neuron_ids"
) -> Labelled:
    """Return the features and true classes of a run's synapses, in order of id; for the options see :func:`command`."""
    from bouton.volume.run_folder import open_run

    run = open_run(path)
    step = _types_step(run)
    table, features = run.table(run.steps[step].reads["synapses"]), run.table(f"{step}.features")
    order = np.argsort(table["id"], kind="stable")
    table = {name: values[order] for name, values in table.items()}
    if "target" not in table or "p_spine" in table:
        table |= _matched(run, table, truth, truth_segmentation)
    classes = {question: np.array(table[question], dtype=object) for question in QUESTIONS}
    for question, known in QUESTIONS.items():
        classes[question][~np.isin(classes[question].astype(str), known)] = ""
    return Labelled(run.folder.name, use, features, classes)


def _types_step(run: Run) -> str:
    found = [name for name, step in run.steps.items() if step.stage == "synapse_types"]
    if len(found) != 1:
        raise SpecError(
            f"{len(found)} steps of stage synapse_types", where=f"run {run.folder.name}", expected="one",
            fix="add one with params: {model: none}, as in workflows/types/predicted.yaml",
        )  # fmt: skip
    return found[0]


def _shared_params(paths: Sequence[Path]) -> dict[str, float]:
    """Return reach and spacing of the features, which all runs must agree in."""
    from bouton.stages.synapse_types import Params
    from bouton.volume.run_folder import open_run

    found: dict[tuple[float, float], str] = {}
    for path in paths:
        run = open_run(path)
        values = run.steps[_types_step(run)].params
        found.setdefault((float(values["reach_nm"]), float(values["spacing_nm"])), run.folder.name)
    if len(found) > 1:
        told = "; ".join(f"{name}: reach_nm {reach:g}, spacing_nm {space:g}" for (reach, space), name in found.items())
        raise SpecError(f"features measured in different ways ({told})", expected="the same params in every run")
    reach, spacing = next(iter(found), (Params().reach_nm, Params().spacing_nm))
    return {"reach_nm": reach, "spacing_nm": spacing}


def _matched(run: Run, table: Mapping[str, np.ndarray], truth: str, segmentation: str) -> dict[str, np.ndarray]:
    """Return the true type and target of each row: of the nearest true synapse between the same true neurons."""
    from bouton.evaluate.synapses import points_nm
    from bouton.geometry import Box
    from bouton.stages.evaluate_synapses import neurons_at

    true, volume = run.table(truth), run.volume(segmentation)
    pre, post = neurons_at(table, volume, run.voxel_size_nm, Box.of_shape(run.shape))
    found = {question: np.full(len(table["id"]), "", dtype=object) for question in QUESTIONS}
    centres, places = points_nm(true), points_nm(table)
    for row in range(len(table["id"])):
        same = (true["pre_id"] == pre[row]) & (true["post_id"] == post[row])
        far = np.where(same, np.linalg.norm(centres - places[row], axis=1), np.inf)
        if far.size and far.min() <= MATCH_NM:
            for question in QUESTIONS:
                found[question][row] = true[question][int(np.argmin(far))]
    return found


def _source(rows: Labelled) -> Source:
    from bouton.learn.synapse_types import Source

    counts = {
        question: {name: int(np.sum(rows.classes[question] == name)) for name in known}
        for question, known in QUESTIONS.items()
    }
    return Source(name=rows.name, use=rows.use, rows=counts)


def _scores(model: TypesModel, question: str, rows: Sequence[Labelled]) -> list[Score]:
    """Return how good the answers to a question are on the runs to test on."""
    from bouton.learn.synapse_types import Score
    from bouton.learn.synapse_types_training import reliability

    asked = model.card.questions[question]
    found = []
    for each in (each for each in rows if each.use == "test"):
        features, labels = _stack([each], question, asked.features)
        labels_known = np.isin(labels, asked.classes)
        chances = model.classifiers[question].probabilities(features[labels_known])
        if not len(chances):
            continue
        right = np.array(asked.classes)[chances.argmax(axis=1)] == labels[labels_known]
        error = reliability(chances.max(axis=1), right)[1]
        count = len(right)
        found.append(Score(data=each.name, what=f"{question} right", value=round(float(right.mean()), 4), n=count))
        found.append(Score(data=each.name, what=f"{question} calibration error", value=round(error, 4), n=count))
    return found


def _show(model: TypesModel) -> None:
    console = Console(stderr=True)
    table = Table("question", "classes", "features", "calibration", box=None)
    for name, question in model.card.questions.items():
        table.add_row(name, ", ".join(question.classes), str(len(question.features)), question.calibration)
    console.print(table)
    for score in model.card.scores:
        console.print(f"{score.data}: {score.what} {score.value:g} (n = {score.n})", highlight=False)
