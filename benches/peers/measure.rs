//! Rounds in which every subject takes a turn, and summaries of their figures.

use serde::{Deserialize, Serialize};

/// The median and the quartiles of some samples.
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

/// Runs every subject once a round, in rotating order. Returns each subject's figures in the order of the rounds.
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
/// Returns the number of bytes in use on the heap.
pub fn heap() -> f64 {
    // SAFETY: it takes nothing and returns a struct of integers.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as f64
}

/// Returns the number of this process's threads.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("procfs").count()
}

/// Returns the processor time that this process has used, in microseconds.
pub fn cpu_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call to write to.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// Returns how much memory this process has in use, in KiB.
pub fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of it");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}
