"""Judges a table of mathematical answers with math-verify: math_answers.py TABLE.

TABLE has a line of names and then `kind, answer, completion, verdict`, separated by tabs; `␤` is a line
feed. Printed is
a JSON object: `right`, what math-verify says of each line, and the `seconds` of processor time that
took."""

import json
import logging
import sys
import time

from math_verify import parse, verify

# It logs every expression it gives up on.
logging.disable(logging.CRITICAL)
# Its limits of 5 seconds would make verdicts depend on what else the machine does.
PARSE = {"parsing_timeout": None, "raise_on_error": False}
VERIFY = {"timeout_seconds": None, "raise_on_error": False}


def judged(answer, completion):
    marked = "\\boxed" in answer or "####" in answer
    known = parse(answer if marked else f"\\boxed{{{answer}}}", **PARSE)
    return verify(known, parse(completion, **PARSE), **VERIFY)


with open(sys.argv[1], encoding="utf-8") as table:
    cases = [line.rstrip("\n").split("\t") for line in table][1:]
cases = [[field.replace("␤", "\n") for field in case] for case in cases]
# What is built once, at the first use, is not part of the time.
judged("1", "\\boxed{1}")
begun = time.process_time()
right = [judged(answer, completion) for _, answer, completion, _ in cases]
print(json.dumps({"right": right, "seconds": time.process_time() - begun}))
