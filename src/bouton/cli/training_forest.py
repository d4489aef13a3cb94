"""Training of a forest with its files: the model's folder, and what is told on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bouton.cli.training_card import Origin, Progress, training_card
from bouton.cli.training_data import check_heads, load_volumes
from bouton.cli.training_forest_plan import ForestPlan
from bouton.cli.training_validation import validate
from bouton.errors import RunError
from bouton.learn.card import Card
from bouton.learn.forest import Forest, fit_forest
from bouton.learn.forest_training import fitted_surroundings, training_rows
from bouton.learn.package import package_files
from bouton.learn.runners_forest import ForestRunner
from bouton.learn.sampling import SamplingSettings, TrainingVolume
from bouton.learn.vesicle_features import Surroundings
from bouton.volume import write_folder

HEAD = "clefts"


@dataclass(frozen=True)
class ForestRun:
    """One training of a forest.

    Attributes
    ----------
    plan : ForestPlan
    origin : Origin
        The training file, and what ``--set`` changed.
    folder : Path
        Receives the model, as folder NAME.
    tell : callable
        Is given lines for people.
    stop : callable
        Says whether to stop; what is not finished is lost, because a forest takes minutes.
    """

    plan: ForestPlan
    origin: Origin
    folder: Path
    tell: Callable[[str], None]
    stop: Callable[[], bool]

    def train(self) -> Path:
        """Train, validate and write the model; return its folder.

        Raises
        ------
        RunError
            It was asked to stop.
        """
        began, plan = time.monotonic(), self.plan
        data = load_volumes(plan.data, plan, self.origin.plan_file.parent)
        check_heads(plan, data)
        held = load_volumes(plan.validation, plan, self.origin.plan_file.parent)
        runner = self._fit([each.volume for each in data])
        scores = self._validate(runner, [each.volume for each in held])
        card = self._card(runner, Progress(0, (time.monotonic() - began) / 3600, scores))
        write_folder(self.folder / plan.name, package_files(card, runner.forest.arrays()))
        return self.folder / plan.name

    def _fit(self, volumes: Sequence[TrainingVolume]) -> ForestRunner:
        plan = self.plan
        given = Surroundings(plan.architecture, plan.voxel_size_nm)
        given = fitted_surroundings(volumes, HEAD, given, plan.forest.recall)
        features, classes = training_rows(volumes, HEAD, given, plan.points)
        self.tell(
            f"{plan.name}: {len(volumes)} volumes, candidates of mean grey {given.architecture.darkest:.1f} or less, "
            f"{len(classes) // 2:,} points on synapses and as many elsewhere"
        )
        forest = fit_forest(features, classes, plan.settings, tell=self._progress())
        return ForestRunner(plan.info(given.architecture), forest)

    def _progress(self) -> Callable[[int], None]:
        began, trees = time.monotonic(), self.plan.forest.trees

        def tell(done: int) -> None:
            if self.stop():
                raise RunError(
                    f"stopped after {done} of {trees} trees: nothing is saved", where=str(self.folder),
                    expected="a finished forest", fix="run the same command again",
                )  # fmt: skip
            left = (time.monotonic() - began) * (trees - done) / done
            self.tell(f"tree {done}/{trees}  ETA {left:.0f} s")

        return tell

    def _validate(self, runner: ForestRunner, volumes: Sequence[TrainingVolume]) -> dict[str, float]:
        if not volumes:
            return {}
        sampling = SamplingSettings(patch_zyx=(1, 1, 1), seed=self.plan.seed, heads=(HEAD,))
        scores = validate(runner, volumes, sampling).scores
        self.tell("validation  " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        return scores

    def _card(self, runner: ForestRunner, done: Progress) -> Card:
        card = training_card(self.plan, self.origin, done)
        return card.model_copy(update={"prediction": runner.info, "notes": (_size(runner.forest),)})


def _size(forest: Forest) -> str:
    return f"{forest.trees} trees of {forest.feature.size / forest.trees:,.0f} nodes, trained with scikit-learn"
