"""Makes train.jsonl and heldout.jsonl, the task of the main job.

A prompt is six digits and "="; the answer is their running sums modulo 10:
"472913=" -> "413236". A prompt is held out if sum(i * x_i) (i from 1) is a multiple of 7, so
that no held-out prompt can be trained on, whatever the seed. Both files are drawn without
replacement with a fixed seed; run `python3 make.py` in this folder to make them again.
"""

import json
import random

DIGITS, TRAIN, HELDOUT = 6, 16384, 1024


def digits(number):
    return [int(c) for c in f"{number:0{DIGITS}d}"]


def is_heldout(number):
    return sum(i * x for i, x in enumerate(digits(number), start=1)) % 7 == 0


def answer(number):
    total, sums = 0, ""
    for x in digits(number):
        total = (total + x) % 10
        sums += str(total)
    return sums


def write(path, numbers):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for number in numbers:
            row = {"prompt": f"{number:0{DIGITS}d}=", "answer": answer(number)}
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


everything = range(10**DIGITS)
draw = random.Random(6)
write("train.jsonl", draw.sample([n for n in everything if not is_heldout(n)], TRAIN))
write("heldout.jsonl", draw.sample([n for n in everything if is_heldout(n)], HELDOUT))
