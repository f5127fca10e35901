"""Reads `flats.csv`; run as a script, it writes the file again: 400 invented flats and their rents."""

import csv
import random
from pathlib import Path

import pandas as pd

CITIES = {"Basel": 1.15, "Bern": 1.0, "Luzern": 1.05, "Zürich": 1.45}
HEATINGS = {"gas": 0, "heat pump": 60, "oil": -40, "": 0}
REMARKS = ["quiet street", "near the station", "new kitchen", "no pets", ""]


def flats(path="flats.csv"):
    """Return the flats, with the columns that have few values as categories."""
    table = pd.read_csv(path)
    return table.astype({"city": "category", "heating": "category"})


def write(path="flats.csv", rows=400):
    chance = random.Random(7)
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["city", "area", "year built", "heating", "balcony", "remark", "rent"])
        for _ in range(rows):
            city, heating = chance.choice(list(CITIES)), chance.choice(list(HEATINGS))
            area, year = round(25 + 120 * chance.random()), 1920 + int(105 * chance.random())
            balcony = chance.random() < 0.5
            rent = (500 + 17 * area + 3 * max(0, year - 1980) + HEATINGS[heating] + 90 * balcony) * CITIES[city]
            rent += 140 * (chance.random() + chance.random() - 1)
            known = year if chance.random() < 0.9 else ""
            writer.writerow([city, area, known, heating, balcony, chance.choice(REMARKS), round(rent, -1)])


if __name__ == "__main__":
    write()
