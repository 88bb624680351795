//! Meaning of slots to a run, and the producers that sample other groups for them.

use vintage_control::{Heartbeat, Sha256, SlotMeaning};

/// Meaning of a run's slots. What is not known of the run is that of the first producer.
#[derive(Debug, Default)]
pub(crate) struct Meaning {
    digest: Option<Sha256>,
    /// Seed and group size of the run.
    own: Option<(u64, u16)>,
    /// Parts of `digest`.
    parts: Option<SlotMeaning>,
}

impl Meaning {
    pub(crate) fn of_digest(digest: Option<Sha256>) -> Self {
        Self {
            digest,
            ..Self::default()
        }
    }

    pub(crate) fn own(&mut self, seed: u64, group_size: u16) {
        self.own = Some((seed, group_size));
    }

    /// Returns the reason for which a producer's slots are not those of the run, if they are not.
    pub(crate) fn refusal(&mut self, heartbeat: &Heartbeat) -> Option<String> {
        let run = match (heartbeat.slots, self.own) {
            (Some(its), Some((seed, group_size))) => Some(SlotMeaning {
                seed,
                group_size,
                ..self.parts.unwrap_or(its)
            }),
            _ => self.parts,
        };
        if let (Some(its), Some(run)) = (heartbeat.slots, run)
            && its != run
        {
            return Some(format!(
                "{}; start it with the run's own settings and prompts",
                differences(&its, &run)
            ));
        }
        let digest = heartbeat.slots_sha256;
        let expected = *self.digest.get_or_insert(digest);
        if digest == expected {
            self.parts = self.parts.or(heartbeat.slots);
            return None;
        }
        Some(format!(
            "its seed, prompts or group size differ from those of the run: digest {digest}, and the \
             run has {expected}; start it with the run's own settings and prompts"
        ))
    }
}

/// Words what differs, with both values.
fn differences(its: &SlotMeaning, run: &SlotMeaning) -> String {
    let mut differences = Vec::new();
    if its.seed != run.seed {
        differences.push(format!(
            "its seed is {}, the run's is {}",
            its.seed, run.seed
        ));
    }
    if its.group_size != run.group_size {
        differences.push(format!(
            "its rollout.group_size is {}, the run's is {}",
            its.group_size, run.group_size
        ));
    }
    let prompts = |of: &SlotMeaning| (of.prompts, of.prompts_sha256);
    if prompts(its) != prompts(run) {
        let spelled = |of: &SlotMeaning| {
            let digest = of.prompts_sha256.to_string();
            format!("{} with digest {}…", of.prompts, &digest[..12])
        };
        differences.push(format!(
            "its prompts (prompts.train, prompts.chat) are {}, the run's are {}",
            spelled(its),
            spelled(run)
        ));
    }
    differences.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vintage_control::{CONTROL_FORMAT, ProducerWindow};

    fn heartbeat(slots: Option<SlotMeaning>, digest: u8) -> Heartbeat {
        Heartbeat {
            format: CONTROL_FORMAT.to_owned(),
            policy: "lead".parse().unwrap(),
            producer: "p".to_owned(),
            number: 0,
            grants_read: None,
            capacity: 1,
            held: ProducerWindow::default(),
            failed: ProducerWindow::default(),
            given_back: ProducerWindow::default(),
            slots_sha256: Sha256([digest; 32]),
            slots,
            leaving: false,
        }
    }

    #[test]
    fn what_differs_is_named_with_both_values_whoever_comes_first() {
        let run = SlotMeaning {
            seed: 0,
            group_size: 8,
            prompts: 4,
            prompts_sha256: Sha256([9; 32]),
        };
        let mut meaning = Meaning::default();
        meaning.own(0, 8);
        let other = SlotMeaning {
            seed: 3,
            group_size: 4,
            ..run
        };
        let refused = meaning.refusal(&heartbeat(Some(other), 2)).unwrap();
        assert!(
            refused.contains("its seed is 3, the run's is 0"),
            "{refused}"
        );
        assert!(
            refused.contains("group_size is 4, the run's is 8"),
            "{refused}"
        );
        assert!(!refused.contains("prompts ("), "{refused}");
        assert_eq!(meaning.refusal(&heartbeat(Some(run), 1)), None);
        let other = SlotMeaning { prompts: 5, ..run };
        let refused = meaning.refusal(&heartbeat(Some(other), 3)).unwrap();
        assert!(
            refused.contains("are 5 with digest 090909090909…"),
            "{refused}"
        );
        // A producer of an older build says no parts.
        assert_eq!(meaning.refusal(&heartbeat(None, 1)), None);
        assert!(
            meaning
                .refusal(&heartbeat(None, 2))
                .unwrap()
                .contains("digest 0202")
        );
    }
}
