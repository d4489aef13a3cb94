"""Prediction of one random forest through bouton's kernel and through other libraries, on one core.

    OMP_NUM_THREADS=1 python benchmarks/forests.py ROWS.npz [--peers FOLDER]

A forest is trained with scikit-learn on the rows X (float32 (n, 10)) and classes y of ROWS.npz, and the rows F, of
classes t, are predicted. LightGBM trains a forest of its own on them (mode rf), with as many leaves. CPU seconds, the
best of three; what is not installed is left out. --peers: a folder of packages that pip installed with --target.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score

from bouton.learn.forest import flat_forest, predict_forest

Predictor = tuple[str, Callable[[np.ndarray], np.ndarray]]


def predictors(x: np.ndarray, y: np.ndarray) -> Iterator[Predictor]:
    """Yield name and function of each library that is installed."""
    trained = RandomForestClassifier(200, max_features=3, min_samples_leaf=50, random_state=5).fit(x, y)
    forest = flat_forest([tree.tree_ for tree in trained.estimators_])
    print(f"{len(x):,} points, {forest.feature.size / 200:.0f} nodes a tree", flush=True)
    yield "bouton", lambda rows: predict_forest(forest, rows)[:, 1]
    yield "scikit-learn", lambda rows: trained.predict_proba(rows)[:, 1]
    for each in (_onnx, _lightgbm, _treelite):
        try:
            yield each(trained, x, y)
        except ImportError as error:
            print(f"{each.__name__[1:]}: not measured ({error})", flush=True)


def _onnx(trained: RandomForestClassifier, x: np.ndarray, y: np.ndarray) -> Predictor:
    import onnxruntime
    from skl2onnx import to_onnx

    graph = to_onnx(trained, x[:1], options={"zipmap": False}).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options)
    return "ONNX Runtime", lambda rows: session.run(None, {"X": rows})[1][:, 1]


def _lightgbm(trained: RandomForestClassifier, x: np.ndarray, y: np.ndarray) -> Predictor:
    import lightgbm

    leaves = int(np.mean([tree.tree_.n_leaves for tree in trained.estimators_]))
    values = {"boosting": "rf", "objective": "binary", "num_leaves": leaves, "min_data_in_leaf": 50, "num_threads": 1}
    values |= {"bagging_fraction": 0.632, "bagging_freq": 1, "feature_fraction_bynode": 0.3, "verbosity": -1}
    booster = lightgbm.train(values, lightgbm.Dataset(x, y), 200)
    return "LightGBM rf (its own trees)", lambda rows: booster.predict(rows, num_threads=1)


def _treelite(trained: RandomForestClassifier, x: np.ndarray, y: np.ndarray) -> Predictor:
    import treelite

    model = treelite.sklearn.import_model(trained)
    return "treelite GTIL", lambda rows: treelite.gtil.predict(model, rows, nthread=1).reshape(len(rows), -1)[:, 1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("--peers")
    options = parser.parse_args()
    if options.peers:
        sys.path.append(options.peers)
    with np.load(options.rows) as data:
        x, y, rows, truth = (data[name] for name in ("X", "y", "F", "t"))
    rows, truth = rows[::20].copy(), truth[::20]
    first = None
    for name, predict in predictors(x, y):
        seconds, found = [], predict(rows[:100])
        for _ in range(3):
            began = time.process_time()
            found = predict(rows)
            seconds.append(time.process_time() - began)
        first = found if first is None else first
        each, score = min(seconds) / len(rows) * 1e9, average_precision_score(truth, found)
        gap = np.abs(first - found).max()
        print(f"{name:28} {each:8.0f} ns/row  average precision {score:.3f}  from bouton's {gap:.1e}", flush=True)


if __name__ == "__main__":
    main()
