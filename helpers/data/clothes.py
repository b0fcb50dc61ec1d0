"""The cut of the six garments that are worn above the ankle, drawn with a garments.Pen; see garments.py.

Each function takes the pen and the cloth's shade in [0, 1], and draws one garment, cut at random by the pen's dice.
Coordinates are pixels of the 28×28 image, x to the right and y downwards.
"""

import numpy as np

SIZE = 28  # pixels


def mirrored(points):
    """Close a left half, given from top to bottom, with its mirror image."""
    return points + [(SIZE - x, y) for x, y in reversed(points)]


def contrast(shade, amount=0.45):
    """Return a shade that stands out against `shade`."""
    return shade - amount if shade > 0.5 else shade + amount


def upper(pen, shade, shoulder, chest, waist, hem, sleeve, length=27.4):
    """Draw a torso and two sleeves ('none', 'short', 'half' or 'long'); return the shade of its seams."""
    dice = pen.dice
    dark = shade * dice.uniform(0.35, 0.75)
    left, top = 14 - shoulder, dice.uniform(1.8, 3.2)
    armpit = dice.uniform(8.5, 10.0)
    if sleeve != "none":
        if sleeve == "long":
            low, out, thick = dice.uniform(22.5, 26.8), dice.uniform(2.0, 4.2), dice.uniform(2.8, 3.8)
            middle = (left - 1.4, top + 4.5)
        elif sleeve == "half":
            low, out, thick = dice.uniform(13, 17), dice.uniform(3.0, 5.0), dice.uniform(3.2, 4.4)
            middle = (left - 1.2, top + 3.5)
        else:
            low, out, thick = dice.uniform(8.3, 11.5), dice.uniform(3.2, 4.8), dice.uniform(3.6, 4.8)
            middle = (left - 1.5, top + 2.5)
        out = left - out + (0.6 if sleeve == "long" else 0)
        cuff = [(out, low), (out + thick, low + dice.uniform(0.4, 1.6))]
        shape = [(14 - shoulder * 0.6, top - 0.6), (left, top), middle, *cuff, (14 - chest + 0.8, armpit)]
        sleeves = shade * dice.uniform(0.82, 1.06)
        pen.fill(shape, sleeves, rounds=0)
        pen.fill([(SIZE - x, y) for x, y in shape], sleeves, rounds=0)
        if dice.random() < 0.6:
            pen.both([(x, y - 1.2) for x, y in cuff], contrast(sleeves, dice.uniform(0.1, 0.3)), dice.uniform(0.5, 1.2))
        gap = 0.0 if sleeve == "long" and dice.random() < 0.6 else dark
        pen.both([(14 - chest - 0.1, armpit + 0.5), (14 - waist - 0.2, 18), (14 - hem - 0.1, length)], gap, 0.9)
    neck = shoulder * dice.uniform(0.38, 0.5)
    body = [(14 - neck, 0.9), (left + 0.4, top), (14 - chest - 0.3, armpit - 3), (14 - chest, armpit)]
    pen.fill(mirrored([*body, (14 - waist, 17.5), (14 - hem, length)]), shade, rounds=0)
    if sleeve != "none" and dice.random() < 0.75:
        pen.both([(left + 0.4, top), (14 - chest, armpit - 3), (14 - chest, armpit)], dark, 0.5)
    if dice.random() < 0.5:
        pen.line([(14 - hem, length - 1.3), (14 + hem, length - 1.3)], dark, 0.4)
    return dark, neck


def neckline(pen, shade, dark, neck, kind):
    """Cut a neck: 'crew', 'scoop', 'vee', 'boat' or 'high'."""
    dice = pen.dice
    if kind == "high":
        pen.fill(mirrored([(14 - neck * 0.9, 0.2), (14 - neck * 1.1, 2.4)]), shade * 0.85, rounds=0)
        pen.line([(14 - neck, 2.5), (14 + neck, 2.5)], dark, 0.5)
        return
    deep = {"crew": 1.9, "boat": 1.2, "scoop": dice.uniform(3, 5), "vee": dice.uniform(4, 7)}[kind]
    wide = neck * (1.3 if kind == "boat" else 1.0)
    rim = contrast(shade, dice.uniform(0.0, 0.3))
    if kind == "vee":
        pen.fill([(14 - wide - 0.6, 0.2), (14, deep + 0.9), (14 + wide + 0.6, 0.2)], rim, rounds=0)
        pen.fill([(14 - wide, 0), (14, deep), (14 + wide, 0)], 0, rounds=0)
    else:
        pen.oval(14, 0.6, wide + 0.5, deep + 0.7, rim)
        pen.oval(14, 0.3, wide, deep, 0)
    if dice.random() < 0.6:  # the inside of the back
        pen.oval(14, 0.9, wide * 0.9, 0.8, shade * 0.45)


def motif(pen, shade):
    """Print something on the chest: lettering, a disc or ring, a badge, a panel or a diamond."""
    dice = pen.dice
    ink = contrast(shade, dice.uniform(0.3, 0.7))
    x, y = 14 + dice.uniform(-0.5, 0.5), dice.uniform(9, 13)
    kind = dice.choice(("letters", "letters", "disc", "ring", "badge", "panel", "diamond"))
    if kind == "letters":
        for row in range(dice.randint(1, 3)):
            half = dice.uniform(2, 4.8)
            for start in np.arange(-half, half, 1.3):
                pen.line([(x + start, y + 1.9 * row), (x + start + dice.uniform(0.4, 1.1), y + 1.9 * row)], ink, 1.1)
    elif kind in ("disc", "ring"):
        radius = dice.uniform(2, 4.2)
        pen.oval(x, y, radius, radius, ink)
        pen.oval(x, y, radius * 0.65, radius * 0.65, shade if kind == "ring" else ink * 0.85)
    elif kind == "badge":
        pen.oval(14 + dice.choice((-3, 3)), dice.uniform(7, 9), 0.9, 0.8, ink)
    elif kind == "panel":
        half, deep = dice.uniform(2.5, 4.5), dice.uniform(3, 8)
        pen.fill([(x - half, y - 1), (x + half, y - 1), (x + half, y + deep), (x - half, y + deep)], ink, rounds=0)
        pen.oval(x, y + deep / 2, half * 0.5, deep * 0.3, shade)
    else:
        size = dice.uniform(2.5, 4.5)
        pen.fill([(x, y - size), (x + size, y), (x, y + size), (x - size, y)], ink, rounds=0)


def buttons(pen, shade, top, bottom, step, x=14.0):
    """Draw a row of buttons down the front."""
    knob = contrast(shade, pen.dice.uniform(0.25, 0.6))
    for y in np.arange(top, bottom, step):
        pen.oval(x, y, 0.5, 0.45, knob)


def t_shirt(pen, shade):
    """Draw a T-shirt or a sleeveless top: short or half sleeves, five necks, often a print."""
    dice = pen.dice
    sleeve = dice.choices(("short", "none", "half"), (75, 15, 10))[0]
    chest = dice.uniform(5.8, 7.6) if sleeve != "none" else dice.uniform(4.8, 6.4)
    shoulder = chest + (dice.uniform(0.4, 1.4) if sleeve != "none" else -dice.uniform(0.4, 1.6))
    hem = chest * dice.uniform(0.92, 1.12)
    dark, neck = upper(pen, shade, shoulder, chest, chest * dice.uniform(0.88, 1.0), hem, sleeve)
    neckline(pen, shade, dark, neck, dice.choices(("crew", "scoop", "vee", "boat"), (45, 25, 20, 10))[0])
    if dice.random() < 0.45:
        motif(pen, shade)


def trousers(pen, shade):
    """Draw trousers, from skinny to wide, with waistband, fly, pockets, crease, turn-ups."""
    dice = pen.dice
    waist, hip = dice.uniform(3.2, 4.3), dice.uniform(4.2, 5.2)
    crotch, spread = dice.uniform(8.0, 10.5), dice.uniform(0.5, 2.0)
    cuff = dice.uniform(1.2, 2.7)  # half a leg's width at the ankle, from skinny to flared
    knee = min(cuff, 1.9) * 0.6 + 0.75
    low = dice.uniform(26.6, 27.9)
    dark = shade * dice.uniform(0.4, 0.75)
    outer = [(14 - waist, 0.6), (14 - hip, crotch - 3), (14 - spread * 0.5 - 2 * knee, 18)]
    inner = [(14 - spread, low), (14 - spread * 0.5, 18), (14.02, crotch), (14.02, 0.6)]
    leg = [*outer, (14 - spread - 2 * cuff, low), *inner]
    pen.fill(leg, shade, rounds=0)
    pen.fill([(SIZE - x, y) for x, y in leg], shade * dice.uniform(0.9, 1.05), rounds=0)
    pen.line([(14 - waist, 2.2), (14 + waist, 2.2)], dark, 0.5)
    pen.line([(14, 1), (14, crotch)], dark, 0.5)
    if dice.random() < 0.6:
        pen.both([(14 - waist + 1.0, 2.5), (14 - hip + 0.2, 5.2)], dark, 0.5)
    if dice.random() < 0.6:  # a crease, or worn denim
        ridge = [(14 - hip * 0.6, 6), (14 - spread * 0.5 - knee, 18), (14 - spread - cuff, low - 1)]
        pen.both(ridge, shade * dice.uniform(1.1, 1.35), dice.uniform(0.6, 1.8))
    if dice.random() < 0.35:
        pen.both([(14 - spread - 2 * cuff, low - 1.2), (14 - spread, low - 1.2)], dark, 0.5)


def pullover(pen, shade):
    """Draw a pullover or hoodie: long sleeves, ribbed hem, a print or a band at times."""
    dice = pen.dice
    chest = dice.uniform(5.8, 7.2)
    hem = chest * dice.uniform(0.9, 1.05)
    dark, neck = upper(pen, shade, chest + dice.uniform(0.3, 1.2), chest, chest, hem, "long")
    kind = dice.choices(("crew", "boat", "vee", "high", "scoop", "hood"), (45, 12, 14, 10, 7, 12))[0]
    if kind == "hood":
        pen.fill([(9, 4.2), (10, 0.6), (14, 0.1), (18, 0.6), (19, 4.2), (14, 6.5)], shade * 0.85)
        pen.oval(14, 2.8, 2.4, 2.2, shade * 0.35)
        pen.fill([(9.5, 23), (11, 18.5), (17, 18.5), (18.5, 23)], shade * 0.88, rounds=0)
    else:
        neckline(pen, shade, dark, neck, kind)
    rib = dice.uniform(1.2, 2.2)
    pen.fill(mirrored([(14 - hem, 27.4 - rib), (14 - hem, 27.4)]), shade * dice.uniform(0.75, 0.95), rounds=0)
    draw = dice.random()
    if draw < 0.3:
        motif(pen, shade)
    elif draw < 0.42:
        y, deep = dice.uniform(9, 13), dice.uniform(2, 6)
        pen.fill(mirrored([(14 - chest, y), (14 - chest, y + deep)]), contrast(shade), rounds=0)


def dress(pen, shade):
    """Draw a dress: four kinds of sleeve, a waist, a skirt from narrow to flared, belt, pleats."""
    dice = pen.dice
    sleeve = dice.choices(("none", "short", "half", "long"), (50, 25, 10, 15))[0]
    chest, waist, hem = dice.uniform(3.8, 5.4), dice.uniform(3.2, 4.6), dice.uniform(4.0, 8.6)
    shoulder, line = chest + dice.uniform(-1.0, 0.4), dice.uniform(10, 12.5)
    dark = shade * dice.uniform(0.4, 0.75)
    if sleeve != "none":
        low, out = {"short": (7.5, 2.4), "half": (13, 2.6), "long": (20.5, 2.8)}[sleeve]
        low += dice.uniform(-1, 1)
        arm = [(14 - shoulder + 1, 1.2), (14 - shoulder - 0.8, 3), (14 - shoulder - out, low)]
        arm += [(14 - shoulder - out + 2.3, low + 0.6), (14 - chest + 0.7, 8)]
        pen.fill(arm, shade * 0.92, rounds=0)
        pen.fill([(SIZE - x, y) for x, y in arm], shade * 0.92, rounds=0)
        pen.both([(14 - chest - 0.3, 7.5), (14 - waist - 0.4, line)], 0, 0.7)
    neck = shoulder * dice.uniform(0.45, 0.6)
    low = dice.uniform(26.6, 27.8)
    side = [(14 - neck, 0.5), (14 - shoulder, 1.6), (14 - chest, 6.5), (14 - waist, line)]
    swell = (14 - waist - (hem - waist) * dice.uniform(0.5, 0.8), line + 6)
    pen.fill(mirrored([*side, swell, (14 - hem, low)]), shade, rounds=0)
    neckline(pen, shade, dark, neck, dice.choice(("scoop", "vee", "crew", "scoop")))
    if dice.random() < 0.55:
        belt = contrast(shade, dice.uniform(0.2, 0.5))
        pen.line([(14 - waist, line), (14 + waist, line)], belt, dice.uniform(0.5, 1.6))
    for _ in range(dice.choice((0, 2, 3, 5))):  # pleats
        at = dice.uniform(-0.8, 0.8)
        light = shade * dice.choice((0.65, 0.8, 1.2))
        pen.line([(14 + at * waist, line + 0.5), (14 + at * hem, low - 0.3)], light, 0.5)


def coat(pen, shade):
    """Draw a coat or jacket: long sleeves, open in front, with lapels, a stand-up collar or a hood."""
    dice = pen.dice
    chest = dice.uniform(6.2, 7.6)
    hem = chest * dice.uniform(0.95, 1.15)
    dark, neck = upper(pen, shade, chest + dice.uniform(0.4, 1.2), chest, chest * dice.uniform(0.88, 1), hem, "long")
    collar, inside = dice.choice(("lapel", "lapel", "stand", "hood")), dice.choice((shade * 0.4, contrast(shade, 0.5)))
    deep = dice.uniform(8, 13) if collar == "lapel" else dice.uniform(3, 4.5)
    if collar == "hood":
        pen.fill([(8.8, 4.8), (10, 0.5), (14, 0.1), (18, 0.5), (19.2, 4.8), (14, 7)], shade * 0.82)
    pen.fill([(14 - neck, 0.3), (14 + neck, 0.3), (14, deep)], inside, rounds=0)
    if collar == "lapel":
        flap = [(14 - neck - 0.6, 0.4), (14 - neck - 1.6, deep * 0.55), (13.8, deep + 0.5), (14 - neck + 0.6, 1.0)]
        for points in (flap, [(SIZE - x, y) for x, y in flap]):
            pen.fill(points, shade * 1.12 + 0.03, rounds=0)
            pen.line(points[:3], dark, 0.4)
    elif collar == "stand":
        pen.both([(14 - neck, 0.4), (14 - neck * 0.5, 3.0), (13.8, 4.0)], shade * 0.7, 1.5)
    gap = dice.choice((0.0, dark, dark, contrast(shade, 0.55)))
    opening = [(14, deep - 0.5), (14 + dice.uniform(-0.2, 0.2), 27.4)]
    pen.line(opening, gap, dice.uniform(0.7, 1.5))
    if dice.random() < 0.15:  # worn open
        pen.fill([(14, deep), (16, 27.5), (12, 27.5)], inside, rounds=0)
    if dice.random() < 0.65:
        buttons(pen, shade, deep + 1.5, 25, dice.uniform(2.6, 4), 14 - dice.uniform(1.0, 1.8))
    y = dice.uniform(17, 20)
    pen.both([(8.8, y + dice.uniform(0, 1.5)), (11.6, y)], dark, dice.uniform(0.6, 1.3))
    if dice.random() < 0.3:
        pen.line([(14 - chest, 15.5), (14 + chest, 15.5)], dark, dice.uniform(0.8, 1.6))


def shirt(pen, shade):
    """Draw a shirt or blouse: collar, button placket, long to short sleeves, a rounded tail, a pocket."""
    dice = pen.dice
    sleeve = dice.choices(("long", "short", "half"), (58, 27, 15))[0]
    chest = dice.uniform(5.6, 7.0)
    hem = chest * dice.uniform(0.95, 1.15)
    dark, neck = upper(pen, shade, chest + dice.uniform(0.3, 1.2), chest, chest * dice.uniform(0.86, 1), hem, sleeve)
    if dice.random() < 0.6:  # a rounded tail
        pen.fill([(14 - hem - 0.5, 28), (14 - hem - 0.5, 25.6), (14 - hem + 2.2, 28)], 0)
        pen.fill([(14 + hem + 0.5, 28), (14 + hem + 0.5, 25.6), (14 + hem - 2.2, 28)], 0)
    drop = dice.uniform(3.2, 5.2)
    pen.fill([(14 - neck, 0.2), (14 + neck, 0.2), (14, drop)], shade * 0.4, rounds=0)
    point = [(14 - neck, 0.3), (14 - neck - 0.4, 2.0), (14 - neck * 0.75, drop + 0.8), (13.9, drop - 0.4)]
    for points in (point, [(SIZE - x, y) for x, y in point]):
        pen.fill(points, shade * 1.15 + 0.05, rounds=0)
        pen.line(points[1:], dark, 0.4)
    pen.both([(13.1, drop), (13.1, 27)], dark, 0.35)
    buttons(pen, shade, drop + 1.4, 26.5, dice.uniform(2.2, 3.2))
    if dice.random() < 0.4:
        pocket = [(16, 9), (19, 9), (19, 12.5), (16, 12.5), (16, 9)]
        pen.line(pocket, dark, 0.4)
