"""The embedded set: garments drawn again from a seed, as bright and busy as the real ones; digits split by writer."""

import random

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from helpers.data import garments, images


@pytest.fixture(scope="module")
def drawn():
    return garments.draw_garments(1000, seed=1)


def test_shapes_types_and_equal_classes(drawn):
    drawings, labels = drawn
    assert drawings.shape == (1000, 28, 28) and drawings.dtype == np.uint8
    assert labels.shape == (1000,) and np.bincount(labels).tolist() == [100] * len(garments.NAMES)
    assert (np.diff(labels.astype(int)) != 0).sum() > 500  # in random order


def test_a_seed_repeats_and_another_differs():
    drawings, labels = garments.draw_garments(50, seed=4)
    again, same = garments.draw_garments(50, seed=4)
    other, _ = garments.draw_garments(50, seed=5)
    assert np.array_equal(drawings, again) and np.array_equal(labels, same)
    assert not {image.tobytes() for image in drawings} & {image.tobytes() for image in other}


def test_no_two_garments_are_alike(drawn):
    drawings, _ = drawn
    assert len({image.tobytes() for image in drawings}) == len(drawings)


def test_brightness_and_coverage_are_near_fashion_mnist(drawn):
    # Fashion-MNIST's first 10,000 training images: mean 0.286, coverage 0.463, neighbour difference 0.155
    values = drawn[0] / 255
    assert values.mean() == pytest.approx(0.286, abs=0.03)
    assert (values > 0.05).mean() == pytest.approx(0.463, abs=0.04)
    steps = np.abs(np.diff(values, axis=1)).mean() + np.abs(np.diff(values, axis=2)).mean()
    assert steps == pytest.approx(0.155, abs=0.03)


def test_background_is_black_and_garments_fill_the_frame(drawn):
    drawings, _ = drawn
    assert (drawings[:, [0, -1]][:, :, [0, -1]] > 0).mean() < 0.05  # the four corners
    inside = drawings > 12
    longest = np.maximum(inside.any(axis=2).sum(axis=1), inside.any(axis=1).sum(axis=1))
    assert longest.min() >= 22 and np.median(longest) >= 27


def test_silhouettes_are_those_of_their_classes(drawn):
    drawings, labels = drawn
    inside = drawings > 12
    name = {word: inside[labels == index] for index, word in enumerate(garments.NAMES)}
    height = {word: masks.any(axis=2).sum(axis=1).mean() for word, masks in name.items()}
    width = {word: masks.any(axis=1).sum(axis=1).mean() for word, masks in name.items()}
    assert width["trousers"] < 13 < width["dress"] < 17 < width["pullover"]
    assert height["sneaker"] < 16 < height["ankle boot"] < height["coat"]
    assert width["sneaker"] > 26 and width["sandal"] > 26
    assert name["sandal"].mean() < 0.3 < name["bag"].mean()
    legs = drawings[labels == garments.NAMES.index("trousers")][:, 20:26].mean(axis=(0, 1))
    assert legs[13:15].max() < 0.5 * min(legs[9:12].max(), legs[16:19].max())  # it is dark between the legs
    sleeves = name["t-shirt"][:, 16:, :5].mean()  # where long sleeves hang, short ones do not
    assert sleeves < 0.05 < name["pullover"][:, 16:, :7].mean()


def test_a_class_can_be_told_from_its_picture(drawn):
    drawings, labels = (array.astype(float) for array in drawn)
    flat = drawings.reshape(len(drawings), -1)
    score = KNeighborsClassifier(3).fit(flat[:800], labels[:800]).score(flat[800:], labels[800:])
    assert 0.6 < score < 0.99  # neither noise nor stamps


def test_none_and_few():
    drawings, labels = garments.draw_garments(3, seed=0)
    assert drawings.shape == (3, 28, 28) and labels.shape == (3,)


def test_corner_cutting_keeps_a_polygon_inside_itself():
    pen = garments.Pen(random.Random(0))
    pen.shift = pen.slant = 0.0
    pen.wide = pen.high = 1.0
    square = [(4, 4), (24, 4), (24, 24), (4, 24)]
    assert pen.place(square, 0) == [(16, 16), (96, 16), (96, 96), (16, 96)]
    rounded = np.array(pen.place(square, 2))
    assert len(rounded) == 16 and rounded.min() >= 16 and rounded.max() <= 96
    assert np.abs(rounded - 16).sum(axis=1).min() > 0  # the corners are gone


# ---- the whole embedded set ---------------------------------------------------------------------------------------


def test_embedded_splits_share_no_writer_and_no_garment():
    stops = [stop for _, stop in images.FORMS.values()]
    assert [start for start, _ in images.FORMS.values()] == [0, *stops[:-1]] and stops[-1] == 1797
    parts = [images.load_images(split, source="embedded") for split in images.SPLITS]
    assert [len(part.digits) for part in parts] == [1287, 258, 252]
    seen = [{image.numpy().tobytes() for image in part.garments} for part in parts]
    assert [len(group) for group in seen] == [6000, 1000, 1000]
    assert len(set.union(*seen)) == 8000
    for part in parts:
        assert set(part.digit_labels.tolist()) == set(part.garment_labels.tolist()) == set(range(10))
        assert len(part.garment_names) == len(part.digit_names) == 10


def test_embedded_splits_begin_where_a_form_begins():
    labels = load_digits().target
    for start, _ in images.FORMS.values():  # every writer's form starts by counting
        assert labels[start : start + 10].tolist() == list(range(10)) and labels[start - 1] == 8


def test_embedded_digits_look_like_mnist():
    # MNIST: mean 0.131, a fifth of the pixels inked, strokes near 1, digits 20 pixels high
    values = images.load_images("train", source="embedded").digits.float() / 255
    assert values.mean() == pytest.approx(0.131, abs=0.03)
    assert (values > 0.05).float().mean() == pytest.approx(0.182, abs=0.04)
    assert (values.amax(dim=(1, 2)) > 0.95).float().mean() > 0.99
    assert (values > 0.05).any(dim=2).sum(dim=1).float().mean() == pytest.approx(19.7, abs=1.5)


def test_enlarging_keeps_place_and_order():
    small = np.zeros((2, 8, 8))
    small[0, 0, :], small[1, :, 7] = 1, 1
    top, right = images.enlarge(small).astype(float)
    rows, columns = np.mgrid[:28, :28]
    assert (rows * top).sum() / top.sum() == pytest.approx(2 + 2.4 * 1.5 - 0.5, abs=0.3)
    assert (columns * right).sum() / right.sum() == pytest.approx(2.8 * 8.5 - 0.5, abs=0.3)
