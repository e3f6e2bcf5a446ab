#!/usr/bin/env python3
"""clinc150 as the simulator reads it: 2,000 training queries (seed 7), each answered by one letter, its domain.

    python3 examples/results/clinc150_domains.py ../shared/data/clinc150 build/clinc150_domains.jsonl
"""
import json
import os
import random
import sys

folder, out = sys.argv[1:]
with open(os.path.join(folder, "data_full.json")) as file:
    queries = json.load(file)["train"]
with open(os.path.join(folder, "domains.json")) as file:
    domains = json.load(file)
domain_of = {intent: name for name, intents in domains.items() for intent in intents}
letters = dict(zip(sorted(domains), "ABCDEFGHIJ"))
rows = [(text, domain_of[intent]) for text, intent in queries]
random.Random(7).shuffle(rows)
with open(out, "w") as file:
    for text, domain in rows[:2000]:
        row = {"prompt": text + " :", "response": letters[domain], "label": domain}
        file.write(json.dumps(row) + "\n")
