"""Does `bouton check-model` tell where a network fails? Verdicts on known cases, and its score against accuracy.

    python benchmarks/shift.py --references     # reference statistics of the shipped models, from their training data
    python benchmarks/shift.py --verdicts       # tissue that fits, tissue that does not, damaged tissue
    python benchmarks/shift.py --correlation    # the score against the loss of accuracy on FIB-25

The limits of the verdict were chosen on corrupted versions of gala train and of FIB-25 sections 60-119, both training
data of the network. Sections 120-159, tiny_fib, other tissue and all phantoms shown by --verdicts chose nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import tifffile
from scipy import ndimage, stats

from bouton.cli.main import main as command_line
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.partition import variation_of_information
from bouton.geometry import NM, Box
from bouton.learn.card import read_card
from bouton.learn.model import Model, load_model
from bouton.learn.predict import predict
from bouton.learn.shift import Reference, read_reference
from bouton.learn.shift_features import fitting_box, look_at_box, sample_boxes
from bouton.learn.shift_verdict import Evidence, judge
from bouton.learn.shipped import MODELS
from bouton.phantom import PhantomParams, generate
from bouton.segment.components import relabel
from bouton.segment.history import cut
from bouton.segment.whole import WholeParams, merge_history

DATA = Path(os.environ.get("BOUTON_DATA", Path(__file__).parents[2] / "shared" / "data"))
FIB, VNC, PHANTOM = (10.0, 10.0, 10.0), (50.0, 4.6, 4.6), (30.0, 10.0, 10.0)
THRESHOLD = 0.2
STRENGTHS = {
    "noise": (8, 16, 30),
    "blur": (0.8, 1.4, 2.5),
    "contrast": (0.5, 0.25),
    "brightness": (40,),
    "gamma": (0.5, 2.5),
    "inverted": (1,),
    "sections repeated": (2, 4),
    "slipped sections": (1, 2.5),
}


def read(file: str, dataset: str) -> np.ndarray:
    """Return a data set of the shared data."""
    with h5py.File(DATA / file) as opened:
        found: np.ndarray = opened[dataset][...]
    return found


def grey(values: np.ndarray) -> np.ndarray:
    """Return values as uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def corrupted(image: np.ndarray, kind: str, strength: float) -> np.ndarray:
    """Return an image, uint8 (z, y, x), damaged in one way."""
    values, rng = image.astype(np.float32), np.random.default_rng(5)
    if kind == "noise":
        return grey(values + rng.normal(size=values.shape) * strength)
    if kind == "blur":
        return grey(ndimage.gaussian_filter(values, strength))
    if kind == "contrast":
        return grey((values - values.mean()) * strength + values.mean())
    if kind == "brightness":
        return grey(values + strength)
    if kind == "gamma":
        return grey(255 * (values / 255) ** strength)
    if kind == "inverted":
        return 255 - image
    if kind == "sections repeated":
        return image[np.arange(len(image)) // int(strength) * int(strength)]
    moved = [np.rint(rng.normal(size=2) * strength).astype(int) for _ in image]
    return np.stack([np.roll(section, by, (0, 1)) for section, by in zip(image, moved, strict=True)])


class Subject:
    """A shipped model with its reference."""

    def __init__(self, name: str) -> None:
        folder = MODELS / name
        self.model: Model = load_model(folder)
        found = read_reference(folder, read_card(folder).weights.sha256)
        if found is None:
            raise SystemExit(f"{folder} has no reference.json: run with --references first")
        self.reference: Reference = found

    def evidence(self, image: np.ndarray, size: NM, boxes: int, seed: int = 1) -> Evidence:
        """Return what `bouton check-model` would judge by, remedies apart."""
        wanted = self.reference.box_zyx
        shape = fitting_box(self.model.info, wanted, image.shape)
        assert shape is not None
        places = sample_boxes(Box.of_shape(image.shape), shape, boxes, seed)
        readings = [look_at_box(self.model, image[box.slices], box)[0] for box in places]
        return Evidence(self.model.info.voxel_size_nm, size, shape, wanted, readings, self.reference)

    def error(self, image: np.ndarray, truth: np.ndarray) -> float:
        """Return VOI split + merge of the segmentation, bits."""
        box = Box.of_shape(image.shape)
        affinities = predict(self.model, image, box, box, box)["affinities"]
        fragments, merges = merge_history(affinities, WholeParams(low=0.0, floor=0.1, small_affinity=0.05))
        labels = np.ascontiguousarray(relabel(fragments, *cut(merges, THRESHOLD)))
        voi = variation_of_information(count_pairs(truth.astype(np.uint64), labels))
        return voi.split + voi.merge


def typical(evidence: Evidence) -> float:
    """Return the median score of the boxes."""
    return float(np.median([score.total for score in evidence.scores if score]))


def references() -> None:
    """Make the reference statistics of the shipped models."""
    fib = (("fib25_ts2/volume.h5", "0:120,0:250,0:250", 40), ("fib25_gala/train.h5", "0:50,0:100,0:200", 12))
    for file, box, count in fib:
        words = ["--dataset", "volumes/raw", "--bounds-zyx", box, "--boxes", str(count), "--make-reference"]
        _check_model("affinity-fib25", DATA / file, words)
    with tempfile.TemporaryDirectory() as folder:
        with h5py.File(DATA / fib[0][0]) as file:
            np.save(Path(folder) / "every-4th.npy", file["volumes/raw"][0:120:4])
        words = ["--voxel-size-nm", "40,10,10", "--boxes", "30", "--make-reference"]
        _check_model("affinity-aniso", Path(folder) / "every-4th.npy", words)
        for seed in range(1000, 1010):
            # a corner of a training phantom: a larger shape of the same seed holds the smaller one
            image = Path(folder) / f"phantom-{seed}.npy"
            np.save(image, phantom(seed, (48, 160, 160)))
            size = ["--voxel-size-nm", "30,10,10", "--boxes", "8", "--make-reference"]
            _check_model("organelles-phantom", image, size)


def _check_model(model: str, image: Path, words: list[str]) -> None:
    try:
        command_line(["check-model", model, str(image), *words])
    except SystemExit as end:
        if end.code:
            raise


def phantom(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the image of a phantom."""
    image: np.ndarray = generate(Box.of_shape(shape), PhantomParams(seed=seed, voxel_size_nm=PHANTOM)).image
    return image


def cases() -> Iterator[tuple[str, str, Callable[[], np.ndarray], NM]]:
    """Yield model, what it is tried on, the image, and its voxel size."""
    whole = read("fib25_ts2/volume.h5", "volumes/raw")
    held, other = whole[120:160], tifffile.imread(DATA / "misc_em_raw" / "bock11_cube_zyx.tif")
    fib = "affinity-fib25"
    yield fib, "FIB-25, sections 120-159 (held out)", lambda: held, FIB
    yield fib, "FIB-25, sections 160-249 (never seen)", lambda: whole[160:], FIB
    yield fib, "gala tiny_fib (never seen)", lambda: read("fib25_gala/tiny_fib.h5", "volumes/raw"), FIB
    yield fib, "gala test (never seen)", lambda: read("fib25_gala/test.h5", "volumes/raw"), FIB
    yield fib, "mouse cortex, ssTEM (bock11), said to be 10 nm", lambda: other, FIB
    pinky = read("misc_em_raw/pinky_mito_sample1_input.h5", "main")
    yield fib, "mouse cortex, ssTEM (pinky), said to be 10 nm", lambda: pinky, FIB
    yield fib, "the same at its 40 x 7.16 x 7.16 nm", lambda: pinky, (40.0, 7.16, 7.16)
    vnc = read("vnc_gerhard2013/stack1.h5", "volumes/raw")[:, :640]
    yield fib, "fly VNC, ssTEM, 50 x 4.6 x 4.6 nm", lambda: vnc, VNC
    for kind, strength in (
        ("contrast", 0.5), ("contrast", 0.25), ("inverted", 1), ("blur", 1.4), ("blur", 2.5), ("noise", 30),
        ("sections repeated", 4), ("slipped sections", 2.5),
    ):  # fmt: skip
        yield fib, f"held out, {kind} {strength:g}", lambda k=kind, s=strength: corrupted(held, k, s), FIB
    yield fib, "held out, x >= 125 blank", lambda: _half(held, np.full_like(held, 90)), FIB
    yield fib, "held out, x >= 125 slipped 2.5", lambda: _half(held, corrupted(held, "slipped sections", 2.5)), FIB
    tiles = np.resize(other[:, :250, :250], held.shape)
    yield fib, "held out, x >= 125 mouse cortex", lambda: _half(held, tiles), FIB
    unseen = phantom(31, (48, 160, 160))
    yield "organelles-phantom", "phantom of an unseen seed", lambda: unseen, PHANTOM
    yield "organelles-phantom", "phantom of another unseen seed", lambda: phantom(32, (48, 160, 160)), PHANTOM
    for kind, strength in (("contrast", 0.5), ("contrast", 0.2), ("inverted", 1), ("noise", 40), ("blur", 3)):
        yield (
            "organelles-phantom",
            f"unseen seed, {kind} {strength:g}",
            lambda k=kind, s=strength: corrupted(unseen, k, s),
            PHANTOM,
        )
    yield "organelles-phantom", "FIB-25, sections 120-159, said to be 30 x 10 x 10", lambda: held, PHANTOM


def _half(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    found = image.copy()
    found[:, :, 125:] = other[:, :, 125:]
    return found


def verdicts(only: str) -> None:
    """Print a row a case: verdict, typical score, worst boxes in the damaged half, first reason."""
    subjects: dict[str, Subject] = {}
    print(f"{'model':15} {'image':52} {'verdict':13} median   worst  doubtful+  in x >= 125   CPU s")
    for name, what, image, size in cases():
        if only not in what:
            continue
        subject = subjects.setdefault(name, Subject(name))
        started = time.process_time()
        evidence = subject.evidence(image(), size, 12)
        verdict, reasons = judge(evidence)
        levels = [evidence.level(i) for i in evidence.worst_first]
        off = [i for i in evidence.worst_first if evidence.level(i) != "alike"]
        centres = [sum(axis) / 2 for axis in ((b.box.start[2], b.box.stop[2]) for b in evidence.readings)]
        where = f"{sum(centres[i] > 113 for i in off)} of {len(off)}" if "x >=" in what else ""
        totals = [score.total for score in evidence.scores if score]
        spent = time.process_time() - started
        print(
            f"{name:15} {what:52} {verdict:13} {typical(evidence):6.2f}  {max(totals):6.2f}  "
            f"{len(off):3} of {len(levels):2}   {where:>11}  {spent:6.1f}", flush=True,
        )  # fmt: skip
        for reason in reasons[:1]:
            print(f"{'':15}   {reason.found}", flush=True)


def correlation() -> None:
    """Print score and loss of accuracy of corrupted versions, and their rank correlation."""
    subject = Subject("affinity-fib25")
    raw, truth = read("fib25_ts2/volume.h5", "volumes/raw"), read("fib25_ts2/volume.h5", "volumes/labels/neuron_ids")
    for words, part in (
        ("sections 60-119: chose the limits", slice(60, 120)),
        ("sections 120-159: held out", slice(120, 160)),
    ):
        image, labels = np.ascontiguousarray(raw[part]), np.ascontiguousarray(truth[part])
        start = subject.error(image, labels)
        rows = [("as it is", 0.0, typical(subject.evidence(image, FIB, 6)))]
        for kind, strengths in STRENGTHS.items():
            for strength in strengths:
                changed = corrupted(image, kind, strength)
                loss = subject.error(changed, labels) - start
                rows.append((f"{kind} {strength:g}", loss, typical(subject.evidence(changed, FIB, 6))))
        print(f"\nFIB-25, {words} (VOI {start:.3f} bits)\n{'':24}  VOI increase  score")
        for what, loss, score in sorted(rows, key=lambda row: row[1]):
            print(f"{what:24}  {loss:12.3f}  {score:5.2f}")
        found = stats.spearmanr([row[1] for row in rows], [row[2] for row in rows])
        print(f"Spearman's rank correlation of {len(rows)} versions: {found.statistic:.2f} (p {found.pvalue:.1g})")


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("references", "verdicts", "correlation"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--only", default="", help="of the verdicts, those whose name holds this")
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"no real data in {DATA}; set BOUTON_DATA")
    if options.references:
        references()
    if options.verdicts:
        verdicts(options.only)
    if options.correlation:
        correlation()


if __name__ == "__main__":
    main()
