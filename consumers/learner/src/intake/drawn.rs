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
        let drawn = |place: usize| {
            let group = &self.ready[place];
            let sampled = group
                .sampled
                .unwrap_or_else(|| sampled_sha256(&group.parts));
            let mut key = [0; 16];
            key.copy_from_slice(&sampled.0[..16]);
            (uniform(seed, update, key), place)
        };
        let mut drawn: Vec<_> = self.places(update).map(drawn).collect();
        drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        drawn.truncate(wanted);
        let places = drawn.iter().map(|(_, place)| *place).collect();
        // They come in the order of their places.
        let mut ranks: Vec<_> = (0..drawn.len()).collect();
        ranks.sort_by_key(|rank| drawn[*rank].1);
        let mut ranked: Vec<_> = ranks.into_iter().zip(self.take_places(places)).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, group)| group).collect()
    }
}
