"""Does to a topic what must not be overlooked. usage: outage.py BROKER TOPIC (recreate | expire)

recreate    deletes it, makes it again as it was, and lets it grow past where it ended
expire      lets it grow by three records a partition and has the broker delete all but the last
"""

import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

broker, topic, what = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": broker})
consumer = Consumer({"bootstrap.servers": broker, "group.id": "outage"})
partitions = sorted(admin.list_topics(topic, 30).topics[topic].partitions)
ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), 30)[1] for p in partitions}

if what == "recreate":
    admin.delete_topics([topic])[topic].result(30)
    again = NewTopic(topic, len(partitions), 1, config={"max.message.bytes": "4194304"})
    deadline = time.monotonic() + 30
    while True:
        # The name is free once every node has heard of the deletion: there is no event for it.
        try:
            admin.create_topics([again])[topic].result(30)
            break
        except Exception:
            if time.monotonic() > deadline:
                raise

producer = Producer({"bootstrap.servers": broker})
grown = {p: (ends[p] if what == "recreate" else 0) + 3 for p in partitions}
for partition, count in grown.items():
    for number in range(count):
        producer.produce(topic, f"{what} {number}".encode(), b"k", partition)
assert producer.flush(30) == 0, "not acknowledged"

if what == "expire":
    before = [TopicPartition(topic, p, ends[p] + 2) for p in partitions]
    for done in admin.delete_records(before).values():
        done.result(30)
print({p: ends[p] for p in partitions})
