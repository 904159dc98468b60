//! Tables for people, JSON for programs.

use std::fmt::Write;

use crate::input::Scale;
use crate::workload::{Row, describe};

/// All figures of one run.
#[derive(serde::Serialize)]
pub(crate) struct Report {
    kernel: String,
    cpus: usize,
    rounds: u32,
    scale: Scale,
    left_out: Vec<(String, String)>,
    workloads: Vec<(String, Vec<Row>)>,
}

impl Report {
    pub(crate) fn new(scale: Scale, rounds: u32) -> Self {
        let kernel =
            std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self { kernel, cpus, rounds, scale, left_out: Vec::new(), workloads: Vec::new() }
    }

    pub(crate) fn left_out(&mut self, name: &str, reason: &str) {
        self.left_out.push((name.to_owned(), reason.to_owned()));
    }

    pub(crate) fn add(&mut self, name: &str, rows: Vec<Row>) {
        self.workloads.push((name.to_owned(), rows));
    }

    fn rows(&self, name: &str) -> &[Row] {
        self.workloads.iter().find(|(its_name, _)| its_name == name).map_or(&[], |(_, rows)| rows)
    }

    /// One workload: minimum and median, CPU, memory, and how many times calque's median each one's is.
    pub(crate) fn table(&self, name: &str) -> String {
        let mut table = format!("{name}: {}\n", describe(name));
        let _ = writeln!(
            table,
            "  {:<22} {:>9} {:>9} {:>9} {:>9} {:>10}",
            "", "min s", "median s", "CPU s", "peak MiB", "x calque"
        );
        let rows = self.rows(name);
        let calque =
            rows.iter().find(|row| row.who == "calque").map(|row| median(row, |sample| sample.wall_s));
        for row in rows {
            let wall = median(row, |sample| sample.wall_s);
            let least = row.samples.iter().map(|sample| sample.wall_s).fold(f64::INFINITY, f64::min);
            let _ = writeln!(
                table,
                "  {:<22} {:>9} {:>9} {:>9} {:>9.1} {:>10}",
                if row.is_floor { format!("({})", row.who) } else { row.who.clone() },
                seconds(least),
                seconds(wall),
                seconds(median(row, |sample| sample.cpu_s)),
                row.samples.iter().map(|sample| sample.peak_bytes).max().unwrap_or(0) as f64
                    / f64::from(1 << 20),
                calque.map_or(String::new(), |calque| format!("{:.2}", wall / calque)),
            );
        }
        table
    }

    /// One line for each workload: calque against the best peer and the floor, in this run.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!(
            "Linux {}, {} CPUs, {} rounds, interleaved; medians of wall time\n  {:<4} {:>9}  {:<26} {:<34}\n",
            self.kernel, self.cpus, self.rounds, "", "calque s", "best peer", "floor"
        );
        for (name, rows) in &self.workloads {
            let Some(calque) = rows.iter().find(|row| row.who == "calque") else { continue };
            let calque = median(calque, |sample| sample.wall_s);
            let best = |is_floor: bool| {
                rows.iter()
                    .filter(|row| row.is_floor == is_floor && row.who != "calque")
                    .map(|row| (median(row, |sample| sample.wall_s), row.who.as_str()))
                    .min_by(|one, two| one.0.total_cmp(&two.0))
            };
            let tell = |best: Option<(f64, &str)>| {
                best.map_or_else(
                    || "not run".to_owned(),
                    |(wall, who)| format!("{} {who} ({:.2}x)", seconds(wall), wall / calque),
                )
            };
            let _ = writeln!(
                text,
                "  {name:<4} {:>9}  {:<26} {:<34}",
                seconds(calque),
                tell(best(false)),
                tell(best(true))
            );
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("figures are plain values")
    }
}

fn median(row: &Row, value: impl Fn(&crate::measure::Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = row.samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn seconds(value: f64) -> String {
    if value < 0.1 { format!("{value:.4}") } else { format!("{value:.2}") }
}
