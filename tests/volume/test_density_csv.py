"""The CSV of the case study on synapse densities: its columns, its order and its rounding."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.volume.density_columns import DENSITY_COLUMNS
from bouton.volume.density_csv import PUBLISHED_COLUMNS, PublishedForm, write_published_csv


def table():
    """Two blocks of the study's grid at 128 x 128 x 45 nm: one with 200 synapses, one that is masked."""
    masked = np.array([1700, 168_831])
    volume = (168_831 - masked) * 0.128 * 0.128 * 0.045
    values = {name: np.zeros(2, kind if kind != "str" else object) for name, kind in DENSITY_COLUMNS.items()}
    with np.errstate(invalid="ignore"):
        density = np.array([200, 0]) / volume
    return values | {
        "z_start": np.array([45, 156]), "z_stop": np.array([156, 267]),
        "y_start": np.array([55, 16]), "y_stop": np.array([94, 55]),
        "x_start": np.array([16, 16]), "x_stop": np.array([55, 55]),
        "voxels": np.array([168_831, 168_831]), "masked_voxels": masked, "exposed_voxels": 168_831 - masked,
        "synapses": np.array([200, 0]), "all_synapses": np.array([203, 4]), "density_um3": density,
    }  # fmt: skip


def test_columns_and_rounding_by_hand(tmp_path):
    write_published_csv(table(), tmp_path / "blocks.csv", PublishedForm(offset=(2917, 0, 0)))
    with (tmp_path / "blocks.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == PUBLISHED_COLUMNS
    assert len(header) == 17
    # Centres: x (16 + 55) / 2 * 16 = 568; y (55 + 94) / 2 * 16 = 1192; z (2962 + 3073) / 2 = 3017.5, to the even 3018.
    # Density: 200 / (167131 * 0.00073728 um3) = 200 / 123.222 = 1.623.
    assert rows[0] == [
        "16",
        "55",
        "2962",
        "55",
        "94",
        "3073",
        "5",
        "168831",
        "1700",
        "0.01",
        "200",
        "1.623",
        "203",
        "568",
        "1192",
        "3018",
        "1",
    ]
    # z (3073 + 3184) / 2 = 3128.5, to the even 3128; all masked: the published density is 0.
    assert rows[1] == [
        "16",
        "16",
        "3073",
        "55",
        "55",
        "3184",
        "5",
        "168831",
        "168831",
        "1.0",
        "0",
        "0",
        "4",
        "568",
        "568",
        "3128",
        "1",
    ]


def test_another_table_is_refused(tmp_path):
    rows = table()
    del rows["all_synapses"]
    with pytest.raises(DataError, match="without column all_synapses"):
        write_published_csv(rows, tmp_path / "blocks.csv")
