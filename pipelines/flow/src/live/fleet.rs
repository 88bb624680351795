//! Producers of a run: those that the lead grants slots to, or the one of this process.

use std::{collections::BTreeMap, time::Duration};

use vintage_grants::ProducerView;
use vintage_rollout::ProducerEvent;

use super::{rates::Rate, view::Producing};

/// Time without a report after which a producer is shown as silent; it reports every second.
const SILENT: Duration = Duration::from_secs(3);
/// Time for which a producer that is gone is shown.
const SHOWN: Duration = Duration::from_secs(600);

/// Producers of the lead's grants, and those that were among them lately.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    members: BTreeMap<String, Member>,
}

#[derive(Debug)]
struct Member {
    view: ProducerView,
    /// Time of its last report.
    heard: Duration,
    /// True if the granter no longer knows it.
    gone: bool,
    /// Groups that the learner read from it.
    rate: Rate,
}

impl Fleet {
    pub(super) fn hear(&mut self, producers: &[ProducerView], now: Duration) {
        for member in self.members.values_mut() {
            member.gone = true;
        }
        for view in producers {
            let heard = now.saturating_sub(Duration::from_millis(view.silent_ms));
            let known = self.members.remove(&view.producer);
            let (before, mut rate) = known.map_or((0, Rate::default()), |known| {
                (known.view.filled, known.rate)
            });
            rate.note(view.filled.saturating_sub(before), now);
            let member = Member {
                view: view.clone(),
                heard,
                gone: false,
                rate,
            };
            self.members.insert(view.producer.clone(), member);
        }
        self.members.retain(|_, member| member.heard + SHOWN > now);
    }

    pub(super) fn view(&self, now: Duration) -> Vec<Producing> {
        let members = self.members.values();
        members.map(|member| member.producing(now)).collect()
    }
}

impl Member {
    fn producing(&self, now: Duration) -> Producing {
        let view = &self.view;
        let silent = now.saturating_sub(self.heard);
        Producing {
            name: view.producer.clone(),
            doing: self.doing(silent),
            silent: self.gone || silent >= SILENT,
            silent_seconds: silent.as_secs_f64(),
            // The granter forgets a producer once others have its leases.
            held: Some(if self.gone { 0 } else { view.held }),
            capacity: view.capacity,
            groups: view.filled,
            groups_per_second: Some(self.rate.per_second(now)),
        }
    }

    fn doing(&self, silent: Duration) -> String {
        let view = &self.view;
        let time = vintage_human::duration(silent.as_secs_f64());
        if let Some(reason) = &view.refused {
            return format!("refused: {reason}");
        }
        match view.held {
            _ if self.gone && view.leaving => format!("left {time} ago"),
            _ if self.gone => format!("silent for {time}; others have its leases"),
            _ if silent >= SILENT => format!("silent for {time}"),
            _ if view.leaving => "publishing its last groups".to_owned(),
            0 => "waiting for leases".to_owned(),
            held => sampling(held),
        }
    }
}

fn sampling(groups: u64) -> String {
    format!(
        "sampling {groups} group{}",
        if groups == 1 { "" } else { "s" }
    )
}

/// Producer of this process.
#[derive(Debug, Default)]
pub(super) struct Own {
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    doing: String,
    since: Duration,
    groups: u64,
    rate: Rate,
}

impl Own {
    pub(super) fn is_here(&self) -> bool {
        self.state.is_some()
    }

    pub(super) fn take(&mut self, event: &ProducerEvent, now: Duration) {
        let state = self.state.get_or_insert_with(|| State {
            doing: String::new(),
            since: now,
            groups: 0,
            rate: Rate::default(),
        });
        let doing = match event {
            ProducerEvent::Waiting { version: None } => "waiting for an announcement".to_owned(),
            ProducerEvent::Waiting { .. } => "waiting for leases".to_owned(),
            ProducerEvent::Waited { stopped: true, .. } => "publishing its last groups".to_owned(),
            ProducerEvent::Waited { .. } => "loading weights".to_owned(),
            ProducerEvent::Loaded { version, .. } => format!("sampling with version {version}"),
            ProducerEvent::Sampling { groups } => sampling(*groups),
            ProducerEvent::Published { .. } => {
                state.groups += 1;
                state.rate.note(1, now);
                return;
            }
            _ => return,
        };
        if doing != state.doing {
            (state.doing, state.since) = (doing, now);
        }
    }

    pub(super) fn view(&self, now: Duration) -> Option<Producing> {
        let state = self.state.as_ref()?;
        let time = vintage_human::duration(now.saturating_sub(state.since).as_secs_f64());
        Some(Producing {
            name: "this process".to_owned(),
            doing: format!("{} for {time}", state.doing),
            silent: false,
            silent_seconds: 0.0,
            held: None,
            capacity: None,
            groups: state.groups,
            groups_per_second: Some(state.rate.per_second(now)),
        })
    }
}
