"""Random forests as flat arrays: read, checked, applied; trained with scikit-learn, which prediction does not need.

Breiman 2001 (doi:10.1023/A:1010933404324). The probability of a class is the mean, over the trees, of its share among
the training points in the leaf that a row ends in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.learn.forest_walk import LANES, MAX_FEATURES, MAX_NODES, PackedForest, order_keys, pack_trees, walk
from bouton.learn.runners import require

LEAF = -1
DTYPES: Mapping[str, type] = {
    "feature": np.int16,
    "threshold": np.float32,
    "left": np.int32,
    "right": np.int32,
    "value": np.float32,
    "roots": np.int32,
}
TREES_AT_ONCE = 10
ROWS_AT_ONCE = 1 << 14  # their keys stay in the second cache beside one tree


@dataclass(frozen=True)
class Forest:
    """Decision trees. A row goes to ``left`` where its ``feature`` is at most ``threshold``, else to ``right``.

    Attributes
    ----------
    feature : numpy.ndarray
        int16 (n,): column, -1 for a leaf.
    threshold : numpy.ndarray
        float32 (n,), finite.
    left, right : numpy.ndarray
        int32 (n,): children, which come after their parent; -1 for a leaf.
    value : numpy.ndarray
        float32 (n, classes), 0 to 1; read at leaves.
    roots : numpy.ndarray
        int32 (trees,), ascending.

    Raises
    ------
    DataError
        The arrays are no trees.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    roots: np.ndarray

    def __post_init__(self) -> None:
        # each check relies on those before it
        wrong = _wrong_arrays(self) or _wrong_nodes(self) or _wrong_trees(self)
        if wrong:
            raise DataError(
                f"no forest: {wrong}", expected="the arrays of whole trees, as training wrote them",
                fix="restore the model's folder, or train it again",
            )  # fmt: skip

    @property
    def trees(self) -> int:
        """Number of trees."""
        return int(self.roots.size)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.value.shape[1])

    @property
    def features(self) -> int:
        """Least number of features that a row must have."""
        return int(self.feature.max()) + 1

    @cached_property
    def packed(self) -> PackedForest:
        """The trees, laid out for walking."""
        return pack_trees(self.feature, self.threshold, (self.left, self.right), self.value, self.roots)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, as a file of safetensors holds them."""
        return {name: getattr(self, name) for name in DTYPES}


def _wrong_arrays(forest: Forest) -> str:
    n = forest.feature.shape
    shapes = {"roots": (forest.roots.size,), "value": (*n, forest.value.shape[-1] if forest.value.ndim else 0)}
    for name, dtype in DTYPES.items():
        array = getattr(forest, name)
        if array.dtype != dtype or array.shape != shapes.get(name, n) or not array.size or len(n) != 1:
            return f"{name} is {array.dtype} {array.shape}"
    if not np.isfinite(forest.threshold).all():
        return "a threshold that is not finite"
    # a NaN is not within either
    return "" if ((forest.value >= 0) & (forest.value <= 1)).all() else "a value outside 0 to 1"


def _wrong_nodes(forest: Forest) -> str:
    leaf = forest.feature == LEAF
    if forest.feature.min() < LEAF or forest.feature.max() >= MAX_FEATURES:
        return f"a feature outside 0 to {MAX_FEATURES - 1}"
    children = np.stack([forest.left, forest.right])
    if (children[:, leaf] != LEAF).any():
        return "a leaf with children"
    inner = children[:, ~leaf]
    if ((inner <= np.flatnonzero(~leaf)) | (inner >= leaf.size)).any():
        return "a child that does not come after its parent"
    return ""


def _wrong_trees(forest: Forest) -> str:
    n, roots = forest.feature.size, forest.roots
    if roots[0] != 0 or (np.diff(roots) <= 0).any() or roots[-1] >= n:
        return "roots out of order"
    if np.diff(roots, append=n).max() > MAX_NODES:
        return f"a tree of more than {MAX_NODES} nodes"
    inner = np.flatnonzero(forest.feature != LEAF)
    tree = np.searchsorted(roots, np.arange(n), side="right")
    parents = np.zeros(n, np.int64)
    for children in (forest.left[inner], forest.right[inner]):
        if (tree[children] != tree[inner]).any():
            return "a child in another tree"
        parents += np.bincount(children, minlength=n)
    # every node but the roots has one parent, which comes before it: these are trees
    expected = np.ones(n, np.int64)
    expected[roots] = 0
    return "" if (parents == expected).all() else "a node that is no node's child, or that of several"


def forest_of(arrays: Mapping[str, np.ndarray], where: str = "") -> Forest:
    """Return the forest of the arrays that :meth:`Forest.arrays` gave.

    Raises
    ------
    DataError
        One is missing or unknown, or they are no trees.
    """
    for name in sorted(DTYPES.keys() ^ arrays.keys()):
        found = "is missing" if name in DTYPES else "is no array of a forest"
        raise DataError(f"no forest: {name} {found}", where=where, expected=", ".join(DTYPES))
    try:
        return Forest(**{name: np.ascontiguousarray(arrays[name]) for name in DTYPES})
    except DataError as error:
        raise DataError(error.found, where=where, expected=error.expected, fix=error.fix) from None


def predict_forest(forest: Forest, features: np.ndarray) -> np.ndarray:
    """Return the probability of each class, float32 (n, classes).

    A row's result is the same whatever rows stand beside it.

    Parameters
    ----------
    forest : Forest
    features : numpy.ndarray
        float32 (n, k), without NaN, k at least ``forest.features``.

    Raises
    ------
    DataError
        The features are of another type or number, or one is NaN.
    """
    if features.ndim != 2 or features.dtype != np.float32 or features.shape[1] < forest.features:
        raise DataError(
            f"features of {features.dtype} {features.shape}", expected=f"float32 (n, {forest.features} or more)"
        )
    if np.isnan(features).any():
        raise DataError("a feature that is NaN", expected="numbers")
    packed, parts = forest.packed, [np.zeros((0, forest.classes), np.float32)]
    for start in range(0, len(features), ROWS_AT_ONCE):
        part = features[start : start + ROWS_AT_ONCE]
        keys = order_keys(np.pad(part, ((0, -len(part) % LANES), (0, 0))))
        parts.append(walk(packed.nodes, packed.value, packed.starts, keys)[: len(part)])
    return np.concatenate(parts)


@dataclass(frozen=True)
class ForestSettings:
    """How a forest is trained.

    Attributes
    ----------
    trees : int
    tried : int
        Features of which each node takes the best (mtry); 0 for the root of their number, rounded down.
    smallest_leaf : int
        Training points that a leaf holds at least.
    leaves : int
        Leaves of a tree at most, the best ones; 0 for no limit.
    balanced : bool
        Whether every class counts alike, however many rows it has.
    seed : int
        The same seed and data give the same forest.
    """

    trees: int = 200
    tried: int = 0
    smallest_leaf: int = 1
    leaves: int = 0
    balanced: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"trees": 1, "tried": 0, "smallest_leaf": 1, "leaves": 0, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise SpecError(f"{name} {getattr(self, name)} of a forest", expected=f"at least {bound}")


def fit_forest(
    features: np.ndarray, classes: np.ndarray, settings: ForestSettings = ForestSettings(), workers: int = 1,
    tell: Callable[[int], None] | None = None,
) -> Forest:  # fmt: skip
    """Return a forest trained on rows of known class.

    Parameters
    ----------
    features : numpy.ndarray
        float32 (n, k), finite.
    classes : numpy.ndarray
        Integers (n,), 0 to some number, each of which occurs.
    settings : ForestSettings
    workers : int
        Threads; they change nothing in the result.
    tell : callable, optional
        Is told the number of finished trees now and then.

    Raises
    ------
    SpecError
        scikit-learn is not installed.
    DataError
        The rows cannot be learned from.
    """
    require("sklearn", "scikit-learn 1.5", "forest")
    from sklearn.ensemble import RandomForestClassifier

    _check_rows(features, classes)
    tried = settings.tried or max(1, int(features.shape[1] ** 0.5))
    trained = RandomForestClassifier(
        n_estimators=0, warm_start=True, max_features=min(tried, features.shape[1]), n_jobs=workers,
        min_samples_leaf=settings.smallest_leaf, max_leaf_nodes=settings.leaves or None,
        class_weight=_weights(classes) if settings.balanced else None, random_state=settings.seed,
    )  # fmt: skip
    for trees in range(0, settings.trees, TREES_AT_ONCE):
        trained.n_estimators = min(trees + TREES_AT_ONCE, settings.trees)
        trained.fit(features, classes)
        if tell:
            tell(trained.n_estimators)
    return flat_forest([tree.tree_ for tree in trained.estimators_])


def _weights(classes: np.ndarray) -> dict[int, float]:
    counts = np.bincount(classes)
    return {number: len(classes) / (counts.size * int(count)) for number, count in enumerate(counts)}


def _check_rows(features: np.ndarray, classes: np.ndarray) -> None:
    if features.ndim != 2 or features.dtype != np.float32 or not np.isfinite(features).all():
        raise DataError(f"features of {features.dtype} {features.shape}", expected="float32 (n, k), all finite")
    if classes.shape != features.shape[:1] or classes.dtype.kind not in "iu":
        raise DataError(f"classes of {classes.dtype} {classes.shape}", expected=f"integers ({len(features)},)")
    if classes.size and int(classes.min()) < 0:
        raise DataError(f"class {classes.min()}", expected="0 or more")
    counts = np.bincount(classes.astype(np.int64))
    if counts.size < 2 or not counts.all():
        raise DataError(f"{counts.tolist()} rows of the classes 0, 1, ...", expected="rows of two classes or more")


def flat_forest(trees: list[Any]) -> Forest:
    """Return the forest of trees as scikit-learn holds them (``tree_``)."""
    sizes = [tree.node_count for tree in trees]
    roots = np.cumsum([0, *sizes[:-1]])
    leaf = np.concatenate([tree.children_left < 0 for tree in trees])
    threshold = np.where(leaf, 0.0, np.concatenate([tree.threshold for tree in trees]))
    children = [np.concatenate([getattr(tree, f"children_{side}") for tree in trees]) for side in ("left", "right")]
    base = np.repeat(roots, sizes)
    left, right = (np.where(leaf, LEAF, side + base).astype(np.int32) for side in children)
    value = np.concatenate([tree.value[:, 0, :] for tree in trees])
    value /= value.sum(1, keepdims=True)
    feature = np.where(leaf, LEAF, np.concatenate([tree.feature for tree in trees])).astype(np.int16)
    return Forest(feature, _rounded_down(threshold), left, right, value.astype(np.float32), roots.astype(np.int32))


def _rounded_down(threshold: np.ndarray) -> np.ndarray:
    """Return the greatest float32 not above each threshold: of float32 features the same ones are at most it."""
    found = threshold.astype(np.float32)
    above = found > threshold
    found[above] = np.nextafter(found[above], np.float32(-np.inf))
    return found
