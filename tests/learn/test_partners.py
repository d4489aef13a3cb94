"""Partner networks: what they are shown, what they are taught, that they learn it, and what is refused."""

import numpy as np
import pytest

from bouton.cli.training_data import phantom_volume
from bouton.cli.training_plan import Phantoms
from bouton.errors import DataError, SpecError
from bouton.learn.augment import UNCHANGED, Augmentation
from bouton.learn.info import Architecture, ModelInfo
from bouton.learn.model import ready_model
from bouton.learn.network import build_network
from bouton.learn.partner_network import check_partner_network, network_sums, partner_masks
from bouton.learn.partner_sampling import PartnerSampler, cleft_centres, cleft_patch, patch_place
from bouton.learn.runners_torch import TorchRunner
from bouton.learn.sampling import CleftTruth, SamplingSettings, TrainingVolume
from bouton.learn.train import Trainer, TrainingSettings

PATCH = (8, 24, 24)
SETTINGS = SamplingSettings(PATCH, seed=3, heads=("partners",))
NETWORK = Architecture((6, 8), ((3, 3, 3), (3, 3, 3)), ((1, 2, 2),), (1, 5, 5), outputs=2, inputs=2)
INFO = ModelInfo(NETWORK, {"partners": 2}, (30.0, 10.0, 10.0), PATCH, (0, 0, 0), 128.0, 48.0, temperature=30.0)


def toy(shape=(8, 24, 24), **more):
    """Two cells that differ in grey, and a cleft between them; the bright one is presynaptic."""
    labels = np.ones(shape, np.uint32)
    labels[:, shape[1] // 2 :] = 2
    image = np.where(labels == 1, 200, 60).astype(np.uint8)
    clefts = np.zeros(shape, np.uint32)
    middle = shape[1] // 2
    clefts[3:5, middle - 1 : middle + 1, 8:16] = 1
    truth = CleftTruth(clefts, np.array([[0, 0], [1, 2]]))
    return TrainingVolume(image, labels, np.ones(shape, bool), synapses=truth, **more)


def test_a_patch_by_hand():
    volume = toy()
    place = patch_place([4, 12, 12], PATCH, (8, 24, 24))
    patch = cleft_patch(volume, 1, place)
    assert patch.image.shape == (2, *PATCH) and patch.truth.shape == (2, *PATCH)
    np.testing.assert_array_equal(patch.image[0], volume.image)
    np.testing.assert_array_equal(patch.image[1], np.where(volume.synapses.clefts == 1, 255, 0))
    np.testing.assert_array_equal(patch.truth[0], volume.labels == 1)
    np.testing.assert_array_equal(patch.truth[1], volume.labels == 2)
    assert patch.weight.min() == 0 or patch.weight.all()


def test_patches_are_a_function_of_their_number():
    sampler = PartnerSampler([toy((12, 40, 40))], SETTINGS, Augmentation())
    for a, b in zip(sampler(5).__dict__.values(), sampler(5).__dict__.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((sampler(i).image != sampler(5).image).any() for i in range(6, 9))


def test_only_clefts_with_two_known_partners_count():
    volume = toy()
    assert cleft_centres(volume) == [(1, [3, 11, 11])]
    lost = CleftTruth(volume.synapses.clefts, np.array([[0, 0], [1, 0]]))
    bad = TrainingVolume(volume.image, volume.labels, volume.known, synapses=lost)
    with pytest.raises(DataError, match="partners"):
        PartnerSampler([bad], SETTINGS, UNCHANGED)
    with pytest.raises(DataError, match="partners"):
        PartnerSampler([TrainingVolume(volume.image, volume.labels, volume.known)], SETTINGS, UNCHANGED)


def test_patches_stay_inside():
    assert patch_place([0, 30, 20], (4, 10, 10), (8, 32, 40)) == (slice(0, 4), slice(22, 32), slice(15, 25))
    assert patch_place([2, 5, 5], (4, 10, 10), (3, 8, 40)) == (slice(0, 3), slice(0, 8), slice(0, 10))


def test_the_partners_of_a_phantom_are_its_cells():
    volume = phantom_volume(Phantoms(seeds=(1000,), shape_zyx=(40, 160, 160)), 1000, (30.0, 10.0, 10.0))
    found = cleft_centres(volume)
    assert len(found) >= 3
    for cleft, _ in found:
        near = volume.labels[volume.synapses.clefts == cleft]
        # a cleft lies on the membrane between its two cells
        assert set(np.unique(near)) - {0} <= set(volume.synapses.partners[cleft].tolist())


def test_a_small_network_learns_the_toy_and_the_mask_matters():
    sampler = PartnerSampler([toy()], SETTINGS, UNCHANGED)
    training = TrainingSettings(steps=60, learning_rate=5e-3, warmup_steps=5)
    trainer = Trainer(build_network(NETWORK, 1), sampler, training)
    losses = [trainer.update() for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
    runner = TorchRunner(ready_model(INFO, trainer.network.state_dict()))
    volume = toy()
    masks = partner_masks(runner, volume.image, volume.synapses.clefts == 1)
    near = np.s_[2:6, 8:16, 6:18]
    assert ((masks[0] > masks[1]) == (volume.labels == 1))[near].all()
    other = partner_masks(runner, volume.image, np.zeros(PATCH, bool))
    assert (other != masks).any()
    # one tile cut off at a face of the volume is continued, and cut off again
    assert partner_masks(runner, volume.image[:5, :20], (volume.synapses.clefts == 1)[:5, :20]).shape == (2, 5, 20, 24)


def test_sums_of_segments_are_scaled_to_their_rows():
    masks = np.zeros((2, 1, 1, 4), np.uint8)
    masks[0, 0, 0], masks[1, 0, 0] = [10, 20, 200, 0], [0, 100, 1, 7]
    segmentation = np.array([[[5, 5, 8, 9]]], np.uint64)
    beside = np.array([[[True, True, True, True]]])
    rows = {"segment": np.array([5, 8, 11], np.uint64), "voxels": np.array([4, 1, 6])}
    pre, post = network_sums(masks, segmentation, beside, rows)
    # 5: mean 15 over the two voxels here, times the 4 it has in all; 11 lies outside of the patch
    assert pre.tolist() == [60, 200, 0] and post.tolist() == [200, 1, 0]


def test_networks_and_their_inputs_must_agree():
    with pytest.raises(DataError, match="inputs"):
        ModelInfo(NETWORK, {"boundaries": 1, "clefts": 1}, (30.0, 10.0, 10.0), PATCH, (0, 0, 0), 128.0, 48.0)
    one = Architecture((6,), ((3, 3, 3),), (), (1, 5, 5), outputs=2)
    with pytest.raises(DataError, match="inputs"):
        ModelInfo(one, {"partners": 2}, (30.0, 10.0, 10.0), PATCH, (0, 0, 0), 128.0, 48.0)
    plain = ModelInfo(
        Architecture((6,), ((3, 3, 3),), (), (1, 5, 5), outputs=1), {"clefts": 1}, (30.0, 10.0, 10.0), PATCH, (0, 0, 0),
        128.0, 48.0,
    )  # fmt: skip
    with pytest.raises(SpecError, match="clefts"):
        check_partner_network(plain)
