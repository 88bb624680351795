//! Tests of sinks on scripted consumers and on a real broker.

use super::*;
use crate::{fixture::topic_folder, meta::ArchiveMeta};

/// Source that delivers a list of events.
struct Script(std::collections::VecDeque<Event>);

impl SinkSource for Script {
    async fn next(&mut self) -> Result<Option<Event>> {
        Ok(self.0.pop_front())
    }
}

const MARKS: [(Partition, Offset, Offset); 1] = [(Partition(0), Offset(0), Offset(9))];

fn at(offset: i64) -> Event {
    Event::Record(record(0, offset, &crate::fixture::group_at(0, offset)))
}

#[tokio::test]
async fn offsets_without_a_record_lie_inside_the_claimed_range() {
    let (_folder, store) = scratch();
    let script = |_: &[_]| Ok(Script([at(2), at(3), at(7)].into()));
    let (_, task) = Sink::start_on(options(&store), &MARKS, script)
        .await
        .unwrap();
    task.await.unwrap().unwrap();
    let file = &files(&store, 0).await[0].footer;
    assert_eq!(
        (file.base_offset, file.next_offset, file.messages),
        (Offset(0), Offset(8), 3)
    );
}

/// Source that delivers the events sent to it.
struct Sent(mpsc::UnboundedReceiver<Event>);

impl SinkSource for Sent {
    async fn next(&mut self) -> Result<Option<Event>> {
        Ok(self.0.recv().await)
    }
}

#[tokio::test]
async fn where_no_record_stands_none_is_waited_for() {
    let (_folder, store) = scratch();
    let (send, sent) = mpsc::unbounded_channel();
    let source = |_: &[_]| Ok(Sent(sent));
    let (handle, task) = Sink::start_on(options(&store), &MARKS, source)
        .await
        .unwrap();
    let end = |next: i64| Event::End {
        partition: Partition(0),
        next: Offset(next),
    };
    let committed_up_to = async |next: i64| {
        let asked = vec![(Partition(0), Offset(next))];
        handle.drain_up_to(asked).await.unwrap();
        let committed = handle.committed();
        assert_eq!(committed.borrow()[&Partition(0)], Offset(next));
    };
    // A transaction's marker at 3 is claimed by the file of what came before it.
    for event in [at(0), at(2), end(4)] {
        send.send(event).unwrap();
    }
    committed_up_to(4).await;
    // Only markers: there is nothing to write, and nothing to wait for.
    send.send(end(6)).unwrap();
    committed_up_to(6).await;
    assert_eq!(files(&store, 0).await.len(), 1);
    send.send(at(6)).unwrap();
    committed_up_to(7).await;
    let ends = files(&store, 0).await;
    let ends: Vec<_> = ends
        .iter()
        .map(|file| (file.footer.base_offset.0, file.footer.next_offset.0))
        .collect();
    assert_eq!(ends, [(0, 4), (4, 7)], "the files meet");
    handle.shutdown();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_partition_that_was_added_is_archived_from_its_first_record() {
    let (_folder, store) = scratch();
    let (send, sent) = mpsc::unbounded_channel();
    let source = |_: &[_]| Ok(Sent(sent));
    let (handle, task) = Sink::start_on(options(&store), &MARKS, source)
        .await
        .unwrap();
    let added = Partition(1);
    let asked = vec![(added, Offset(2))];
    // Asked for before the sink knows the partition.
    let draining = handle.drain_up_to(asked);
    let grows = async {
        send.send(Event::Assigned(vec![(added, Offset(0))]))
            .unwrap();
        for offset in 0..2 {
            let record = record(1, offset, &crate::fixture::group_at(1, offset));
            send.send(Event::Record(record)).unwrap();
        }
    };
    let (drained, ()) = tokio::join!(draining, grows);
    drained.unwrap();
    let file = &files(&store, 1).await[0].footer;
    assert_eq!((file.base_offset, file.next_offset), (Offset(0), Offset(2)));
    handle.shutdown();
    task.await.unwrap().unwrap();
    // A later sink resumes there.
    let meta = ArchiveMeta::read(&store, &topic_folder(), INCARNATION)
        .await
        .unwrap();
    let end = crate::recover::end(&store, &topic_folder(), &meta, added)
        .await
        .unwrap();
    assert_eq!(end.next, Offset(2));
}

#[tokio::test]
async fn a_consumer_that_goes_back_ends_the_sink() {
    let (_folder, store) = scratch();
    let script = Script([at(0), at(1), at(1)].into());
    let starts = [(Partition(0), Start::at(Offset(0)))].into();
    let (_, task) = Sink::spawn(
        options(&store),
        topic_folder(),
        script,
        starts,
        Blocked::new(),
    );
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(
        error,
        Error::OutOfOrder {
            expected: Offset(2),
            found: Offset(1),
            ..
        }
    ));
    assert_eq!(store.list("").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_revoked_partition_is_left_to_its_next_reader() {
    let (_folder, store) = scratch();
    let again = Event::Assigned(vec![(Partition(0), Offset(0))]);
    let script = [
        at(0),
        at(1),
        Event::Revoked(vec![Partition(0)]),
        at(2),
        again,
        at(0),
        at(1),
    ];
    let script = |_: &[_]| Ok(Script(script.into()));
    let (_, task) = Sink::start_on(options(&store), &MARKS, script)
        .await
        .unwrap();
    let summary = task.await.unwrap().unwrap();
    assert_eq!((summary.messages, summary.files), (2, 1));
    assert_eq!(files(&store, 0).await[0].footer.next_offset, Offset(2));
}

/// Tests a sink that, because of a full buffer or a blocked store, receives late that its group
/// assigned a partition, revoked it and assigned it again.
#[tokio::test]
async fn a_partition_given_twice_goes_on_where_each_gift_said() {
    let (_folder, store) = scratch();
    let archived = Script((0..5).map(at).collect());
    let (_, task) = Sink::start_on(options(&store), &MARKS, |_: &[_]| Ok(archived))
        .await
        .unwrap();
    task.await.unwrap().unwrap();
    let mut options = options(&store);
    options.group = Some("sinks".to_owned());
    let found = recovered(&options, &MARKS, &mut Blocked::new()).await;
    let start = found.unwrap().1[&Partition(0)];
    assert_eq!((start.base, start.read), (Offset(5), Offset(4)));
    let given = || Event::Assigned(vec![(Partition(0), start.read)]);
    let script = [
        given(),
        Event::Revoked(vec![Partition(0)]),
        given(),
        at(4),
        at(5),
    ];
    let sink = Sink::new(
        options.clone(),
        topic_folder(),
        Script(script.into()),
        Blocked::new(),
    );
    for _ in 0..2 {
        sink.planned.put(Partition(0), start);
    }
    let (_, task) = sink.run_in_task();
    assert_eq!(task.await.unwrap().unwrap().messages, 1);
    let [_, last] = &files(&store, 0).await[..] else {
        panic!("another number of files")
    };
    let claimed = (last.footer.base_offset, last.footer.next_offset);
    assert_eq!(claimed, (Offset(5), Offset(6)));

    // Without a start it would have to guess.
    options.cancel = CancellationToken::new();
    let sink = Sink::new(
        options,
        topic_folder(),
        Script([given()].into()),
        Blocked::new(),
    );
    let (_, task) = sink.run_in_task();
    assert!(task.await.unwrap().is_err());
}

/// Tests the whole: a broker, a producer, a sink killed half way, and its successor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_archived_end_to_end() {
    let (_folder, store) = scratch();
    let topic = TopicSpec {
        name: TOPIC.to_owned(),
        partitions: 3,
        replication: 1,
        config: BTreeMap::new(),
    };
    let broker = Embedded::start(&[topic]).await.unwrap();
    let bus = broker.bus();
    let producer = bus.producer("test").unwrap();
    let (handle, task) = Sink::start(options(&store), &bus).await.unwrap();
    let mut acknowledged = BTreeMap::new();
    for number in 0..60 {
        let rows = group(number, 4, 9, number / 8);
        let (headers, payload) = published(number, &rows);
        let delivery = producer
            .publish(TOPIC, &rows[0].group_id.0, headers, payload)
            .await
            .unwrap();
        acknowledged.insert((delivery.partition, delivery.offset), rows);
        if number == 30 {
            let so_far = ends(&acknowledged);
            handle.commit_up_to(so_far).await.unwrap();
        }
    }
    task.abort();
    let _ = task.await;
    let (handle, task) = Sink::start(options(&store), &bus).await.unwrap();
    handle.drain_up_to(ends(&acknowledged)).await.unwrap();
    handle.shutdown();
    task.await.unwrap().unwrap();

    let mut archived = BTreeMap::new();
    let mut merged = Reader::new(store, TOPIC)
        .merged(&Filter::default())
        .await
        .unwrap();
    while let Some(message) = merged.next().await.unwrap() {
        let key = (message.record.partition, message.record.offset);
        let rows = message.rows.unwrap().to_trajectories();
        assert!(archived.insert(key, rows).is_none(), "{key:?} twice");
    }
    assert_eq!(archived, acknowledged);
}

fn ends<T>(acknowledged: &BTreeMap<(Partition, Offset), T>) -> Vec<(Partition, Offset)> {
    let last: BTreeMap<_, _> = acknowledged
        .keys()
        .map(|(p, offset)| (*p, offset.next()))
        .collect();
    last.into_iter().collect()
}
