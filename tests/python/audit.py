"""Accounts for every group of a run, from its files and its topic, sharing no code with vintage.

usage: audit.py RUN_FOLDER [BROKER]; prints one JSON object, as `vintage audit --output json` does.

A group is (producer, number); a record whose headers give neither is a group of its own. For each
learner, produced = trained + rejected + in flight + lost + before start, each counted from its
own record. The rest of this file looks for what a balance alone would not show."""

import collections, glob, json, os, re, sys

import pyarrow.parquet as pq

FOLDER, BROKER = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
findings = []


def loosely(pairs, name):
    """The one text that headers of a name have; names like it count if none is the name itself."""
    alike = lambda key: key.lower().replace("_", "-")
    values = [v for k, v in pairs or [] if k == name and v is not None]
    values = values or [v for k, v in pairs or [] if alike(k) == name and v is not None]
    try:
        return values[0].decode() if values and len(set(values)) == 1 else ""
    except UnicodeDecodeError:
        return ""


def identity_of(pairs):
    """Producer, number, group id and part, each as far as the headers give it: a record that is
    refused for one of them is still somebody's."""
    text = {name: loosely(pairs, name) for name in ("producer", "producer-seq", "group", "part")}
    producer = text["producer"] if 1 <= len(text["producer"].encode()) <= 255 else None
    number = re.fullmatch(r"\+?([0-9]+)(\.0)?", text["producer-seq"].strip(" \t\r\n\0"))
    number = int(number[1]) if number and int(number[1]) < 1 << 64 else None
    group = text["group"].strip(" \t\r\n\0").removeprefix("urn:uuid:").strip("{}").replace("-", "")
    group = group.lower() if re.fullmatch(r"[0-9a-fA-F]{32}", group) else None
    part = re.fullmatch(r"([0-9]+)/([0-9]+)", text["part"].strip(" \t\r\n\0"))
    part = int(part[1]) if part and 1 <= int(part[1]) <= int(part[2]) else 1
    return producer, number, group, part


first_ids, nameless, ownerless = {}, collections.Counter(), collections.Counter()


def number_of(record, pairs):
    """The group of a record and its part, from its headers. A number that comes again with
    another group's id is another group's."""
    producer, number, group, part = identity_of(pairs)
    if producer is None or number is None:
        if record not in records:
            nameless.update([producer] if producer else [])
            ownerless.update([number] if number is not None else [])
        return ("", record), part
    key = producer, number
    first = first_ids.get(key) or group
    if group:
        first_ids.setdefault(key, group)
    return (key if group in (None, first) else (producer, number, group)), part


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
pruned = {}  # offset before which the archive of a place was deleted on purpose
prunes = [load(path) for path in sorted(glob.glob(f"{FOLDER}/prunes/*.json"))]
for partition in sorted(glob.glob(f"{FOLDER}/archive/v1/*/*/p=*")):
    # Older archives are in <topic>/<incarnation>, newer ones in
    # topic=<topic>/incarnation=<incarnation>.
    incarnation, number = (int(level.split("=")[-1]) for level in partition.split("/")[-2:])
    meta = load(f"{partition}/../_meta.json")
    end = meta["starts"].get(str(number), 0)
    marks = [int(os.path.basename(path)[:20]) for path in glob.glob(f"{partition}/*.pruned")]
    if marks:
        end = pruned[incarnation, number] = max(marks)
        said = [at["next"] for prune in prunes for at in prune.get("archive", [])
                if (at["incarnation"], at["partition"]) == (incarnation, number)]
        if max(said, default=0) < end:
            findings.append(f"{partition} begins at {end}, and no prune says so")
    for path in sorted(glob.glob(f"{partition}/*.parquet")):
        if int(os.path.basename(path)[:20]) < pruned.get((incarnation, number), 0):
            continue  # a prune was killed before it had deleted this file
        file = pq.ParquetFile(path)
        footer = json.loads(file.metadata.metadata[b"vintage.footer"])
        if footer["base_offset"] != end:
            findings.append(f"{path} begins at {footer['base_offset']}, those before end at {end}")
        end = footer["next_offset"]
        columns = ["_kafka_offset", "_row_in_msg", "_headers", "_bad_reason"]
        table = file.read(columns).to_pydict()
        for offset, row, pairs, bad in zip(*(table[name] for name in columns)):
            if row == 0:
                record = (incarnation, number, offset)
                pairs = [(pair["key"], pair["value"]) for pair in pairs or []]
                records[record] = number_of(record, pairs)
                archived.add(record)
                if bad is not None:
                    quarantined.add(record)

if BROKER:
    from confluent_kafka import Consumer, TopicPartition

    topic = glob.glob(f"{FOLDER}/archive/v1/*")[0].split("/")[-1].split("=")[-1]
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
        identity = number_of(record, message.headers())
        if records.setdefault(record, identity) != identity:
            findings.append(f"{record} is {identity} in the log, {records[record]} in the archive")
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
for prune in prunes:
    for producer, runs in prune.get("journals", {}).items():
        journals.add(producer)
        acknowledged |= {(producer, n) for first, end in runs for n in range(first, end + 1)}
held = collections.defaultdict(list)
for record in sorted(records):
    held[records[record][0]].append(record)
# A producer numbers without gaps: what lacks below its last number was acknowledged and is gone.
last = {}
for record, ((producer, number, *_), _) in records.items():
    if producer and producer not in journals and record not in quarantined:
        last[producer] = max(last.get(producer, 0), number)
holes = {(p, n) for p, end in last.items() for n in range(end) if (p, n) not in held}
for number, count in ownerless.items():  # half of a number is enough to fill a hole
    for hole in sorted(hole for hole in holes if hole[1] == number)[:count]:
        holes.discard(hole)
for producer, count in nameless.items():
    for hole in sorted(hole for hole in holes if hole[0] == producer)[:count]:
        holes.discard(hole)
produced = acknowledged | set(held) | holes
duplicated = len(records) - len(set(records.values()))

plans, results = numbered("plans"), numbered("results")
checkpoints = numbered("checkpoints", "/manifest.json")
# A version shows which updates made it.
versions = collections.defaultdict(int)
for path in glob.glob(f"{FOLDER}/weights/*/*/manifest.json"):
    policy, version = path.split("/")[-3:-1]
    versions[policy] = max(versions[policy], int(version))
everybody = sorted(plans.keys() | results.keys() | checkpoints.keys())
if not records and not acknowledged and not everybody:
    sys.exit(f"{FOLDER} holds nothing to audit")
learners = {}
for learner in everybody:
    start = {}
    if os.path.exists(path := f"{FOLDER}/starts/{learner}.json"):
        start = {(at["incarnation"], at["partition"]): at["offset"] for at in load(path)["partitions"]}
    trained, reused, rejected, fates, named, uncounted = 0, 0, collections.Counter(), {}, {}, 0
    gone = set()  # groups in plans whose records were pruned
    weights, begun = {}, lambda record: record[2] >= start.get(record[:2], 0)

    def digest(version, found):
        if weights.setdefault(version, found) != found:
            findings.append(f"{learner}: version {version} is {weights[version]} and {found}")

    def take(update, entry, fate):
        places = [tuple(at[key] for key in ("incarnation", "partition", "offset"))
                  for at in entry["records"]]
        for place in places:
            if place not in records and place[2] >= pruned.get(place[:2], 0):
                findings.append(f"{learner}: plan {update} names {place}, which nothing holds")
            if place in named:
                findings.append(f"{learner}: plans {named[place]} and {update} name {place}")
            named[place] = update
        if fate:
            # By its record, where that is still there: plans did not always say whose it is.
            known = records.get(places[0] if places else None)
            said = entry["producer"], entry["producer_seq"]
            group = known[0] if known else said if None not in said else ("", places[0])
            if not known and places and places[0][2] < pruned.get(places[0][:2], 0):
                gone.add(group)
            if group in fates:
                findings.append(f"{learner}: {group} is accounted for twice, at last by {update}")
            fates[group] = fate

    lineages = {of["policy"] for kind in (plans, results, checkpoints)
                for of in kind[learner].values()}
    ends = [0, *(n + 1 for n in plans[learner]), *(n + 1 for n in results[learner]),
            *checkpoints[learner], *(versions[policy] for policy in lineages)]
    for update in range(max(ends)):
        if checkpoint := checkpoints[learner].get(update):
            digest(update, checkpoint["weights_sha256"])
            counts = checkpoint["groups_trained"], checkpoint["groups_rejected"]
            if counts != (trained, sum(rejected.values()) - uncounted):
                findings.append(f"{learner}: checkpoint {update} counts {counts}")
        plan, result = plans[learner].get(update), results[learner].get(update)
        if not plan:
            findings.append(f"{learner}: plan {update} is missing")
        else:
            digest(update, plan["weights_sha256"])
            for group in plan["groups"]:
                trained += 1
                take(update, group, "trained")
            for use in plan.get("reused", []):
                reused += 1
                for at in use["group"]["records"]:
                    place = at["incarnation"], at["partition"], at["offset"]
                    if named.get(place) != use["first_trained"] or use["first_trained"] >= update:
                        findings.append(f"{learner}: plan {update} trains {place} again, first "
                                        f"trained by {named.get(place)}")
            for refused in plan["rejections"]:
                counts = refused["reason"] != "duplicate"
                at = refused["records"][0]
                group = records.get((at["incarnation"], at["partition"], at["offset"]), [()])[0]
                # Refused as a copy before it was distinguished from one: no checkpoint counts it.
                again = len(group) == 3 and group not in fates and not counts
                uncounted += again
                rejected.update([refused["reason"]] if counts or again else [])
                take(update, refused, refused["reason"] if counts or again else None)
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
    groups = produced | gone
    lost = sum(group not in held and group not in gone for group in groups)
    before = len(opened) - in_flight
    if any(at > 0 and place in pruned for place, at in start.items()):
        # What nothing holds may have been among the pruned, before this learner began.
        before, lost = before + lost, 0
    account = dict(
        produced=len(groups), archived=len({records[record][0] for record in archived}),
        quarantined=len(quarantined), trained=trained, rejected=dict(rejected),
        in_flight=in_flight, lost=lost, duplicated=duplicated,
        before_start=before, reused=reused)
    sides = trained + sum(rejected.values()) + in_flight + before + lost
    if account["produced"] != sides:
        findings.append(f"{learner}: {account['produced']} produced, {sides} accounted for")
    learners[learner] = account
print(json.dumps({"holds": not findings, "learners": learners, "findings": findings}))
