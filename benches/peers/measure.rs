//! Rounds, in which every subject has its turn, and what becomes of their figures.

use serde::{Deserialize, Serialize};

/// The middle of some figures, and the middle half of them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Figure {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Figure {
    pub fn of(mut samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "no round was run");
        samples.sort_by(f64::total_cmp);
        let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
        Self { median: at(0.5), low: at(0.25), high: at(0.75) }
    }
}

/// Runs every subject once a round, in an order that turns; gives each subject's figures, in the order of the rounds.
pub fn rounds(count: usize, subjects: &mut [&mut dyn FnMut() -> f64]) -> Vec<Vec<f64>> {
    let mut figures = vec![Vec::new(); subjects.len()];
    for round in 0..count {
        for turn in 0..subjects.len() {
            let subject = (round + turn) % subjects.len();
            figures[subject].push(subjects[subject]());
        }
    }
    figures
}
