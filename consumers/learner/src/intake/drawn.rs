//! Groups that a seed draws from all that wait.

use vintage_control::UpdateNumber;
use vintage_trajectory::sampled_sha256;

use super::{Intake, ReadyGroup};
use crate::draw::uniform;

impl Intake {
    /// Removes and returns up to `wanted` groups for `update` from all that wait, as `seed` draws them and in that
    /// order, whatever the order is in which they came. Groups that can no longer be trained are refused
    /// first.
    pub fn draw(&mut self, update: UpdateNumber, wanted: usize, seed: u64) -> Vec<ReadyGroup> {
        self.settle(update);
        let drawn = |group: &ReadyGroup| {
            let sampled = group
                .sampled
                .unwrap_or_else(|| sampled_sha256(&group.parts));
            let mut key = [0; 16];
            key.copy_from_slice(&sampled.0[..16]);
            uniform(seed, update, key)
        };
        let places = self.places(update);
        let mut places: Vec<_> = places
            .map(|place| (drawn(&self.ready[place]), place))
            .collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let places = places.into_iter().take(wanted).map(|(_, place)| place);
        let mut chosen = self.take_places(places.collect());
        chosen.sort_by(|a, b| drawn(a).total_cmp(&drawn(b)));
        chosen
    }
}
