"""Does to a topic what no producer can.

usage: topic.py BROKERS TOPIC expire OFFSET      deletes the records before OFFSET in every partition
       topic.py BROKERS TOPIC recreate           deletes the topic and creates it again, empty
       topic.py BROKERS TOPIC grow N             gives it N partitions
       topic.py BROKERS TOPIC make N KEY=VALUE…  makes it, with N partitions and these settings
"""
import sys
import time

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

brokers, name, action, *rest = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": brokers})
if action == "make":
    settings = dict(setting.split("=", 1) for setting in rest[1:])
    admin.create_topics([NewTopic(name, int(rest[0]), 1, config=settings)])[name].result(30)
    sys.exit()
partitions = len(admin.list_topics(name, timeout=10).topics[name].partitions)
if action == "grow":
    admin.create_partitions([NewPartitions(name, int(rest[0]))])[name].result(30)
elif action == "expire":
    before = [TopicPartition(name, partition, int(rest[0])) for partition in range(partitions)]
    for deleted in admin.delete_records(before).values():
        deleted.result()
elif action == "recreate":
    admin.delete_topics([name])[name].result()
    deadline = time.monotonic() + 30
    while True:
        try:
            # The name is free only once every partition is gone.
            admin.create_topics([NewTopic(name, partitions, 1)])[name].result()
            break
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
else:
    sys.exit(__doc__)
