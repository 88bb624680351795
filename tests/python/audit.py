"""Accounts for every group of a run, from its files and its topic, sharing no code with vintage.

usage: audit.py RUN_FOLDER [BROKER]; prints one JSON object, as `vintage audit --output json` does.

A group is (producer, number); a record without readable headers is a group of its own. For each
learner, produced = trained + rejected + in flight + lost + before start, each counted from its
own record. The rest of this file looks for what a balance alone would not show."""

import collections, glob, json, os, re, sys

import pyarrow.parquet as pq

FOLDER, BROKER = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
DIGITS, NAME = r"\d+", r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?"
HEADERS = {
    "schema": r"vintage\.trajectory/1", "content-type": r"application/vnd\.apache\.arrow\.stream",
    "run": NAME, "policy": r".+", "group": r"[0-9a-fA-F]{32}", "rows": r"0*[1-9]\d*",
    "part": r"(\d+)/(\d+)", "batch": r"-1|\d+", "min-policy-version": DIGITS,
    "max-policy-version": DIGITS, "producer": r".+", "producer-seq": DIGITS,
    "crc32c": r"[0-9a-fA-F]{8}"}
findings = []


def headers_of(pairs):
    """What the headers say, or None where one is missing, repeated or not what it should be."""
    found = {}
    for key, value in pairs or []:
        if key in HEADERS:
            try:
                text = (value or b"").decode()
            except UnicodeDecodeError:
                return None
            if key in found or not re.fullmatch(HEADERS[key], text, re.DOTALL):
                return None
            found[key] = text
    if found.keys() != HEADERS.keys():
        return None
    part, parts = map(int, found["part"].split("/"))
    low, high = int(found["min-policy-version"]), int(found["max-policy-version"])
    return found if 1 <= part <= parts and low <= high else None


def number_of(record, pairs):
    """The group of a record and its part, from its headers."""
    found = headers_of(pairs)
    if not found:
        return ("", record), 1
    return (found["producer"], int(found["producer-seq"])), int(found["part"].split("/")[0])


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def numbered(kind, end=".json"):
    """{learner: {number: record}} of FOLDER/kind/learner/number.json"""
    found = collections.defaultdict(dict)
    for path in glob.glob(f"{FOLDER}/{kind}/*/*{end}"):
        learner, number = path[len(FOLDER):-len(end)].split("/")[-2:]
        found[learner][int(number)] = load(path)
    return found


records, archived, quarantined = {}, set(), set()
for partition in sorted(glob.glob(f"{FOLDER}/archive/v1/*/*/p=*")):
    life, number = int(partition.split("/")[-2]), int(partition.split("=")[-1])
    meta = load(f"{partition}/../_meta.json")
    end = meta["starts"].get(str(number), 0)
    for path in sorted(glob.glob(f"{partition}/*.parquet")):
        file = pq.ParquetFile(path)
        footer = json.loads(file.metadata.metadata[b"vintage.footer"])
        if footer["base_offset"] != end:
            findings.append(f"{path} begins at {footer['base_offset']}, those before end at {end}")
        end = footer["next_offset"]
        columns = ["_kafka_offset", "_row_in_msg", "_headers", "_bad_reason"]
        table = file.read(columns).to_pydict()
        for offset, row, pairs, bad in zip(*(table[name] for name in columns)):
            if row == 0:
                record = (life, number, offset)
                pairs = [(pair["key"], pair["value"]) for pair in pairs or []]
                records[record] = number_of(record, pairs)
                archived.add(record)
                if bad is not None:
                    quarantined.add(record)

if BROKER:
    from confluent_kafka import Consumer, TopicPartition

    topic = glob.glob(f"{FOLDER}/archive/v1/*")[0].split("/")[-1]
    consumer = Consumer({"bootstrap.servers": BROKER, "group.id": "auditor",
                         "auto.offset.reset": "error", "enable.auto.commit": False})
    ends = {}
    for number in consumer.list_topics(topic).topics[topic].partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number))
        if low < high:
            ends[number] = (low, high)
    consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in ends.items()])
    live = set()
    while ends:
        message = consumer.poll(30)
        if message is None:  # one without a payload is false too
            sys.exit(f"{topic} ended too early")
        record = (0, message.partition(), message.offset())
        live.add(record)
        told = number_of(record, message.headers())
        if records.setdefault(record, told) != told:
            findings.append(f"{record} is {told} in the log, {records[record]} in the archive")
        if message.offset() + 1 >= ends.get(record[1], (0, 1 << 62))[1]:
            del ends[record[1]]
    consumer.close()
    for record in archived - live:
        findings.append(f"{record} is archived, and the log has none there")

acknowledged, journals = set(), set()
for path in glob.glob(f"{FOLDER}/producers/*.acks"):
    producer = os.path.basename(path)[:-len(".acks")]
    journals.add(producer)
    with open(path, encoding="utf-8") as file:
        whole = file.read().rpartition("\n")[0]
    acknowledged |= {(producer, int(line)) for line in whole.split()}
held = collections.defaultdict(list)
for record in sorted(records):
    held[records[record][0]].append(record)
# A producer numbers without gaps: what lacks below its last number was acknowledged and is gone.
last = {}
for record, ((producer, number), _) in records.items():
    if producer and producer not in journals and record not in quarantined:
        last[producer] = max(last.get(producer, 0), number)
holes = {(p, n) for p, end in last.items() for n in range(end) if (p, n) not in held}
produced = acknowledged | set(held) | holes
duplicated = len(records) - len(set(records.values()))

plans, results = numbered("plans"), numbered("results")
checkpoints = numbered("checkpoints", "/manifest.json")
learners = {}
for learner in sorted(plans):
    start = {}
    if os.path.exists(path := f"{FOLDER}/starts/{learner}.json"):
        start = {(at["incarnation"], at["partition"]): at["offset"] for at in load(path)["partitions"]}
    trained, rejected, fates, named = 0, collections.Counter(), {}, {}
    weights, begun = {}, lambda record: record[2] >= start.get(record[:2], 0)

    def digest(version, found):
        if weights.setdefault(version, found) != found:
            findings.append(f"{learner}: version {version} is {weights[version]} and {found}")

    def take(update, entry, fate):
        places = [tuple(at[key] for key in ("incarnation", "partition", "offset"))
                  for at in entry["records"]]
        for place in places:
            if place not in records:
                findings.append(f"{learner}: plan {update} names {place}, which nothing holds")
            if place in named:
                findings.append(f"{learner}: plans {named[place]} and {update} name {place}")
            named[place] = update
        if fate:
            group = ("", places[0]) if entry["producer"] is None else (
                entry["producer"], entry["producer_seq"])
            if group in fates:
                findings.append(f"{learner}: {group} is accounted for twice, at last by {update}")
            fates[group] = fate

    for update in range(max(plans[learner]) + 1):
        if checkpoint := checkpoints[learner].get(update):
            digest(update, checkpoint["weights_sha256"])
            counts = checkpoint["groups_trained"], checkpoint["groups_rejected"]
            if counts != (trained, sum(rejected.values())):
                findings.append(f"{learner}: checkpoint {update} counts {counts}")
        plan, result = plans[learner].get(update), results[learner].get(update)
        if not plan:
            findings.append(f"{learner}: plan {update} is missing")
        else:
            digest(update, plan["weights_sha256"])
            for group in plan["groups"]:
                trained += 1
                take(update, group, "trained")
            for refused in plan["rejections"]:
                counts = refused["reason"] != "duplicate"
                rejected.update([refused["reason"]] if counts else [])
                take(update, refused, refused["reason"] if counts else None)
        if result:
            digest(update + 1, result["weights_sha256"])
    done = {}
    for checkpoint in checkpoints[learner].values():
        for at in checkpoint["partitions"]:
            place = at["incarnation"], at["partition"]
            done[place] = max(done.get(place, 0), at["resume"])
    for record in records:
        if record[2] < done.get(record[:2], 0) and record not in named and begun(record):
            findings.append(f"{learner}: {record} is done by a checkpoint, and in no plan")
    opened = [group for group in held if group not in fates]
    in_flight = sum(begun(held[group][-1]) for group in opened)
    lost = sum(group not in held for group in produced)
    told = dict(
        produced=len(produced), archived=len({records[record][0] for record in archived}),
        quarantined=len(quarantined), trained=trained, rejected=dict(rejected),
        in_flight=in_flight, lost=lost, duplicated=duplicated,
        before_start=len(opened) - in_flight)
    sides = trained + sum(rejected.values()) + len(opened) + lost
    if told["produced"] != sides:
        findings.append(f"{learner}: {told['produced']} produced, {sides} accounted for")
    learners[learner] = told
print(json.dumps({"holds": not findings, "learners": learners, "findings": findings}))
