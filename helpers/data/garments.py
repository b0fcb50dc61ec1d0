"""Garments drawn by code: ten classes of clothes, shoes and bags, grey on black, 28×28, as many as are asked for.

They stand in for Fashion-MNIST where neither the files nor a network are at hand. The classes and their order are
Fashion-MNIST's, so a label means the same in both sets. Each garment is cut at random (sleeves, neck, width, flare,
heel ...), drawn four times too large and averaged down, and then given a fabric: stripes, checks, knit, print, folds.
"""

import random

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from helpers.data.clothes import SIZE, coat, contrast, dress, mirrored, pullover, shirt, t_shirt, trousers

NAMES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
OVERSAMPLING = 4  # drawn so many times larger, then averaged: smooth edges
FABRICS = {  # how often each is taken: by light clothes, by trousers and coats, by shoes and bags
    "plain": (52, 72, 78),
    "rows": (12, 1, 0),
    "columns": (4, 6, 0),
    "checks": (8, 3, 2),
    "knit": (9, 8, 9),
    "print": (11, 8, 9),
    "block": (4, 2, 2),
}


class Pen:
    """Draws in pixels of the small image; every garment is shifted, scaled and slanted a little, as a whole."""

    def __init__(self, dice):
        side = SIZE * OVERSAMPLING
        self.image = Image.new("L", (side, side))
        self.draw = ImageDraw.Draw(self.image)
        self.dice = dice
        self.shift = dice.gauss(0, 0.25)
        self.slant = dice.gauss(0, 0.012)
        self.wide, self.high = dice.uniform(0.93, 1.04), dice.uniform(0.97, 1.0)

    def place(self, points, rounds):
        """Return the drawing's coordinates of `points`; `rounds` of corner cutting turn the corners into curves."""
        half = SIZE / 2
        for _ in range(rounds):
            cut = []
            for (x, y), (u, v) in zip(points, points[1:] + points[:1], strict=True):
                cut += [(0.75 * x + 0.25 * u, 0.75 * y + 0.25 * v), (0.25 * x + 0.75 * u, 0.25 * y + 0.75 * v)]
            points = cut
        return [
            (
                OVERSAMPLING * (half + (x - half) * self.wide + self.slant * (half - y) + self.shift),
                OVERSAMPLING * (half + (y - half) * self.high),
            )
            for x, y in points
        ]

    def fill(self, points, shade, rounds=1):
        """Fill a polygon with a shade in [0, 1]."""
        self.draw.polygon(self.place(points, rounds), fill=grey(shade))

    def line(self, points, shade, width=0.6):
        """Draw a line through `points`, `width` pixels thick."""
        self.draw.line(self.place(points, 0), fill=grey(shade), width=round(width * OVERSAMPLING), joint="curve")

    def both(self, points, shade, width=0.6):
        """Draw a line and its mirror image."""
        self.line(points, shade, width)
        self.line([(SIZE - x, y) for x, y in points], shade, width)

    def oval(self, x, y, across, down, shade):
        """Fill an ellipse around (x, y) with the half axes `across` and `down`."""
        self.draw.ellipse(self.place([(x - across, y - down), (x + across, y + down)], 0), fill=grey(shade))

    def arc(self, x, y, across, down, shade, width):
        """Draw the upper half of an ellipse's outline."""
        angles = np.linspace(np.pi, 2 * np.pi, 17)
        self.line([(x + across * np.cos(a), y + down * np.sin(a)) for a in angles], shade, width)


def grey(shade):
    """Return a shade in [0, 1] as a grey level."""
    return int(255 * min(max(shade, 0.0), 1.0))


# ---- shoes and bags ----------------------------------------------------------------------------------------------


def lifted(points, heel):
    """Raise the back of a shoe (large x) by `heel` pixels, along the arch of the foot."""
    return [(x, y - heel * (3 - 2 * t) * t * t) for x, y in points for t in [min(max((x - 7) / 14, 0.0), 1.0)]]


def heel_block(pen, shade, ground, heel, slim):
    """Draw the heel of a shoe that stands on `ground`: from a block (slim 0) to a spike (slim 1)."""
    top = ground - heel
    front, back = 19.5 + 3.2 * slim, 27.0
    foot = front + (back - front) * 0.6 * slim
    pen.fill([(front, top - 0.7), (back, top - 0.7), (back - 0.2, ground), (foot, ground)], shade, rounds=0)


def sandal(pen, shade):
    """Draw a sandal: flat, with a heel or a wedge; straps over the toes and round the ankle."""
    dice = pen.dice
    kind = dice.choices(("flat", "heel", "wedge"), (42, 36, 22))[0]
    heel = {"flat": dice.uniform(0.2, 1.5), "heel": dice.uniform(7, 12), "wedge": dice.uniform(4, 9)}[kind]
    thick, tall = dice.uniform(0.9, 2.0) + (kind == "wedge"), dice.choice((2.5, 5.5, 7.5, 9.5))
    ground = min(14 + (heel + tall + 3 + thick) / 2, 27.5)
    sole = contrast(shade, dice.uniform(0.0, 0.35))
    bed = ground - thick
    if kind == "wedge":
        pen.fill([*lifted([(5, bed), (12, bed), (20, bed), (27, bed)], heel), (26.5, ground), (5, ground)], sole)
    if kind == "heel":
        heel_block(pen, sole, ground, heel + thick - 0.5, dice.uniform(0.3, 1.0))
    front = [(x, bed) for x in (0.8, 4, 8, 12, 16, 20, 24, 27.2)]
    under = [(x, bed + thick) for x in (27.2, 24, 20, 16, 12, 8, 4, 1.2)]
    pen.fill(lifted(front, heel) + lifted(under, heel), sole, rounds=0)
    pen.line(lifted([(x, y - 0.2) for x, y in front], heel), shade * 1.1 + 0.05, 0.7)
    wide = dice.uniform(1.2, 2.6)

    def strap(points, width=wide):
        pen.line(lifted(points, heel), shade * dice.uniform(0.85, 1.1), width)

    for start in np.linspace(dice.uniform(2, 4), 10.5, dice.randint(1, 3)):  # over the toes
        strap([(start, bed), (start + 1.5, bed - 2.6), (start + 3.6, bed - 3.6), (start + 5.2, bed - 2.9)])
        strap([(start + 3.6, bed - 3.6), (start + 5.8, bed)], wide * 0.8)
    if tall > 3:  # around the ankle
        strap([(25.8, bed), (26.6, bed - tall * 0.6), (26, bed - tall)])
        strap([(26.2, bed - tall), (21.5, bed - tall + 0.9), (18, bed - tall + 0.3)])
        strap([(18, bed - tall + 0.3), (17.8, bed - tall - 0.8), (22, bed - tall - 1.1), (26.2, bed - tall)], 0.8)
        if dice.random() < 0.6:
            strap([(19, bed - tall + 0.5), (15.5, bed - 3.5), (11.5, bed - 2.8)], wide * 0.8)
        if dice.random() < 0.5:
            strap([(19, bed - tall + 0.6), (20.5, bed - 2), (21, bed)], wide * 0.8)
        pen.oval(22, bed - tall - heel + 0.9, 0.7, 0.7, contrast(shade, 0.5))


def sneaker(pen, shade):
    """Draw a sneaker, low or high: laces, sole, panels and stripes."""
    dice = pen.dice
    ground, collar = dice.uniform(19.8, 21.2), dice.choices((-0.8, 0.3, 2.5, 5), (40, 36, 14, 10))[0]
    toe, dark = dice.uniform(14.8, 16.6), shade * dice.uniform(0.35, 0.7)
    shape = [(0.8, 18), (1.2, toe + 0.8), (4, toe - 0.6), (8, 13.8), (12, 11.3), (15, 8.6 - collar), (17, 7.6 - collar)]
    shape += [(19, 9.4 - collar), (23, 9.6 - collar), (26.6, 6.9 - collar), (27.3, 9 - collar), (26.6, 14), (27.6, 19)]
    pen.fill([*shape, (0.8, 19)], shade)
    pen.line([(16.6, 8.6 - collar), (19, 10 - collar), (23, 10.1 - collar), (26, 8.2 - collar)], dark, 0.8)
    panel = shade * dice.uniform(0.7, 1.25)
    if dice.random() < 0.6:  # the counter round the heel
        pen.fill([(23, 19), (22, 13), (24.5, 10), (27.3, 9 - collar), (27, 19)], panel)
    if dice.random() < 0.6:  # the toe cap
        pen.fill([(0.9, 18.5), (1.3, toe + 1), (4, toe - 0.3), (6.8, 14.4), (7, 18.5)], panel)
        pen.line([(6.4, 14.6), (7.2, 18)], dark, 0.4)
    for step in np.linspace(0, 1, dice.randint(3, 5)):
        x, y = 9 + 5 * step, 13.4 - (3.9 + collar) * step
        pen.line([(x, y), (x + 2.3, y + 1.6)], contrast(shade, dice.uniform(0.3, 0.6)), 0.6)
    sign, ink = dice.choice(("bars", "hook", "seam", "none")), contrast(shade, dice.uniform(0.25, 0.6))
    if sign == "bars":
        for x in (13, 15.4, 17.8):
            pen.line([(x, 12.2), (x + 2.0, 17.5)], ink, 0.9)
    elif sign == "hook":
        pen.line([(10, 15.2), (12.2, 17), (16, 15.8), (24, 12)], ink, dice.uniform(0.7, 1.3))
    elif sign == "seam":
        pen.line([(8, 14.6), (13, 16.5), (20, 15), (25, 15.5)], dark, 0.6)
    sole, thick = dice.choice((contrast(shade, 0.4), 0.95, shade * 0.6, shade)), dice.uniform(1.4, 2.8)
    edge = [(0.5, ground - thick), (14, ground - thick + 0.4), (27.6, ground - thick), (27.3, ground - 0.2)]
    pen.fill([*edge, (24, ground), (9, ground), (4, ground), (0.9, ground - 0.9)], sole, rounds=0)
    pen.line(edge[:3], dark, 0.5)


def bag(pen, shade):
    """Draw a tote, handbag, shoulder bag or clutch, with flap, zip, seams, pocket."""
    dice = pen.dice
    kind = dice.choices(("tote", "handbag", "shoulder", "clutch"), (28, 30, 27, 15))[0]
    low, half = dice.uniform(25.5, 27.4), dice.uniform(11.2, 13.8) if kind != "tote" else dice.uniform(8.5, 12.5)
    top = {"tote": 10.5, "handbag": 10.0, "shoulder": 10.5, "clutch": 9.0}[kind] + dice.uniform(-2, 2)
    low -= 3.5 if kind == "clutch" else 0
    narrow, dark = half * dice.uniform(0.72, 1.0), shade * dice.uniform(0.35, 0.7)
    thick, band = dice.uniform(0.7, 1.4), shade * dice.uniform(0.7, 1.15)
    if kind == "tote":
        for across, shift in ((narrow * 0.5, 0.4), (narrow * 0.5, -0.4)):
            pen.arc(14 + shift, top + 0.5, across, top - dice.uniform(0.5, 2.5), band, thick)
    elif kind == "handbag":
        pen.arc(14, top + 0.5, narrow * dice.uniform(0.45, 0.7), dice.uniform(4, top - 1), band, thick + 0.5)
    elif kind == "shoulder":
        peak = (14 + dice.uniform(-4, 4), dice.uniform(0.5, 4))
        pen.line([(14 - narrow + 0.5, top + 1), (peak[0] - 2, peak[1] + 0.6), peak], band, thick)
        pen.line([peak, (peak[0] + 2, peak[1] + 0.6), (14 + narrow - 0.5, top + 1)], band, thick)
    belly = (14 - half * dice.uniform(0.97, 1.04), (top + low) / 2)
    body = mirrored([(14 - narrow, top), belly, (14 - half, low)])
    pen.fill(body, shade, rounds=dice.choice((0, 1, 2)))
    flap = dice.random()
    if flap < 0.4:
        deep = top + (low - top) * dice.uniform(0.4, 0.65)
        pen.fill(mirrored([(14 - narrow, top), (14 - half * 0.97, deep)]), shade * dice.uniform(0.85, 1.2), rounds=0)
        pen.line([(14 - half, deep), (14, deep + dice.uniform(0, 2)), (14 + half, deep)], dark, 0.8)
        pen.oval(14, deep - 0.2, 1.1, 0.9, contrast(shade, 0.5))
    elif flap < 0.75:
        pen.line([(14 - narrow, top + 1.8), (14 + narrow, top + 1.8)], contrast(shade, 0.35), 0.7)
        y = dice.uniform(top + 5, low - 4)
        pen.line([(8, y), (20, y)], dark, 0.6)
    else:
        pen.both([(14 - narrow * 0.5, top), (14 - half * 0.5, low)], dark, dice.uniform(0.6, 1.6))
    pen.line([(14 - half + 0.7, low - 1), (14 + half - 0.7, low - 1)], dark, 0.5)
    if dice.random() < 0.3:
        x, y = 14 + dice.uniform(-5, 5), dice.uniform(top + 4, low - 3)
        pen.fill([(x - 1.5, y - 1), (x + 1.5, y - 1), (x + 1.5, y + 1), (x - 1.5, y + 1)], contrast(shade), rounds=0)


def ankle_boot(pen, shade):
    """Draw an ankle boot: flat to high heel, with laces, elastic, zip, strap or cuff."""
    dice = pen.dice
    heel = dice.choices((0.6, dice.uniform(1.5, 3), dice.uniform(4, 7)), (35, 35, 30))[0]
    thick, shaft = dice.uniform(0.9, 2.4), dice.uniform(9.5, 14.5)
    height = 8 + shaft * 0.75 + heel
    ground = min(14 + height / 2 + 1.5, 27.0)
    bed = ground - thick
    top = max(bed - heel - shaft - 3.2, 0.8) + heel  # before the back is lifted
    toe, dark, front = dice.uniform(2.6, 4.4), shade * dice.uniform(0.35, 0.7), dice.uniform(13.5, 15.5)
    shape = [(0.9, bed), (1.0, bed - toe + 1), (3.5, bed - toe - 0.3), (8, bed - toe - 1.6), (12, bed - toe - 4)]
    shape += [(front, bed - toe - 6), (front + 0.3, top), (26.3, top - 0.4), (26.0, bed - 7), (27.3, bed - 3)]
    shape += [(27.2, bed), (20, bed), (14, bed), (7, bed)]
    if heel > 1:
        heel_block(pen, shade * 0.75, ground, heel + thick - 0.4, dice.uniform(0.0, 0.9) if heel > 3.5 else 0)
    soles = [(x, bed - 0.2) for x in (0.7, 7, 12, 17, 22, 27.2)] + [(x, ground) for x in (27, 22, 17, 12, 7, 1)]
    pen.fill(lifted(soles, heel), contrast(shade, dice.uniform(0.1, 0.5)), rounds=0)
    pen.fill(lifted(shape, heel), shade)
    pen.line(lifted([(front + 0.2, top + 0.6), (26.2, top + 0.2)], heel), dark, 0.9)
    trim = dice.choice(("laces", "elastic", "zip", "strap", "cuff", "none"))
    if trim == "laces":
        for y in np.arange(top + 1.5, bed - toe - 3.5, 1.7):
            pen.line(lifted([(front + 0.2, y), (front + 3.4, y + 1.1)], heel), contrast(shade, 0.45), 0.6)
    elif trim == "elastic":
        x = 20.5
        pen.fill(lifted([(x - 2, top), (x + 2, top), (x + 0.8, bed - 5), (x - 0.8, bed - 5)], heel), dark, rounds=0)
    elif trim == "zip":
        pen.line(lifted([(21, top + 0.5), (20.5, bed - 1)], heel), contrast(shade, 0.4), 0.6)
    elif trim == "strap":
        y = dice.uniform(top + 2, bed - 5)
        pen.line(lifted([(front, y), (26.2, y - 0.5)], heel), dark, 1.3)
        pen.oval(18, y - heel * 0.9, 0.9, 0.9, contrast(shade, 0.5))
    elif trim == "cuff":
        fold = [(front, top), (26.4, top - 0.4), (26.4, top + 3), (front, top + 3.4)]
        pen.fill(lifted(fold, heel), shade * 1.3, rounds=0)
    pen.line(lifted([(7, bed - toe - 1.0), (9.5, bed - 2), (10, bed)], heel), dark, 0.5)


PATTERNS = (t_shirt, trousers, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle_boot)
HEAVY, LEATHER = (1, 4), (5, 7, 8, 9)  # labels


# ---- fabric ------------------------------------------------------------------------------------------------------


def fabric(kinds, rng):
    """Return a factor for every pixel, (count, 28, 28), around 1: the weave, stripes or print of each garment."""
    count = len(kinds)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)

    def wave(coordinate):  # stripes of 2.5 to 8 pixels, from soft to sharp
        pitch, phase = rng.uniform(2.5, 8, (count, 1, 1)), rng.uniform(0, 2 * np.pi, (count, 1, 1))
        return np.tanh(rng.uniform(1, 4, (count, 1, 1)) * np.sin(2 * np.pi * coordinate / pitch + phase))

    noise = rng.standard_normal((count, SIZE, SIZE), dtype=np.float32)
    fine = gaussian_filter(noise, (0, 0.45, 0.45))
    blots = np.tanh(6 * gaussian_filter(noise[::-1], (0, 0.9, 0.9)))
    rows, columns = wave(y), wave(x)
    step = np.sign(y - rng.uniform(9, 19, (count, 1, 1)))
    patterns = np.stack([0 * fine, rows, columns, (rows + columns) / 2, 0.8 * fine, blots, step])
    weave = rng.uniform(0.1, 0.4, (count, 1, 1)) * patterns[kinds, np.arange(count)]
    grain = rng.uniform(0.01, 0.08, (count, 1, 1)) * fine
    folds = 0.5 * gaussian_filter(rng.standard_normal((count, SIZE, SIZE), dtype=np.float32), (0, 3.0, 1.1))
    return 1 + weave + grain + folds


def draw_garments(count, seed):
    """Draw `count` garments, the ten classes in equal parts and in random order.

    Returns uint8 arrays: the images (count, 28, 28) and their labels (count,), indices into NAMES. The same count and
    seed give the same images.
    """
    rng, dice = np.random.default_rng(seed), random.Random(seed)
    labels = rng.permutation(np.arange(count) % len(NAMES)).astype(np.uint8)
    images = np.empty((count, SIZE, SIZE), dtype=np.float32)
    kinds = np.empty(count, dtype=np.int64)
    for index, label in enumerate(labels):
        pen = Pen(dice)
        PATTERNS[label](pen, 0.12 + 0.86 * dice.betavariate(2.0, 0.8))
        images[index] = pen.image.reduce(OVERSAMPLING)
        column = 2 if label in LEATHER else 1 if label in HEAVY else 0
        kinds[index] = dice.choices(range(len(FABRICS)), [odds[column] for odds in FABRICS.values()])[0]
    inside = gaussian_filter((images > 0).astype(np.float32), (0, 1.2, 1.2))
    rounding = 0.82 + 0.18 * np.clip((inside - 0.45) / 0.45, 0, 1)  # cloth turns away from the light at its edges
    images = images * fabric(kinds, rng) * rounding
    return np.clip(images, 0, 255).astype(np.uint8), labels
