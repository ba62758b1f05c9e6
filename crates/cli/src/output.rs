//! What goes to standard error while a run goes on.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use lawvere::Event;

/// Progress: a line a part, and a bar where standard error is a terminal.
pub struct Screen {
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Screen {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, bar: None }
    }

    /// Shows an event.
    pub fn show(&mut self, event: Event) {
        if self.quiet {
            return;
        }
        match event {
            Event::Part(name) => {
                self.finish();
                eprintln!("- {name}");
            }
            Event::Estimate {
                tokens,
                seconds,
                memory,
                disk,
            } => {
                self.finish();
                eprintln!(
                    "- to do: {tokens} tokens through the model; about {}, {} of memory, {} on disk",
                    HumanDuration(Duration::from_secs_f64(seconds.max(1.0))),
                    indicatif::HumanBytes(memory),
                    indicatif::HumanBytes(disk)
                );
            }
            Event::Progress { done, total } if std::io::stderr().is_terminal() => {
                let bar = self.bar.get_or_insert_with(|| {
                    let style = ProgressStyle::with_template("  {bar:40} {pos}/{len} {eta} left");
                    let bar = ProgressBar::new(total as u64);
                    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar
                });
                bar.set_position(done as u64);
            }
            Event::Progress { .. } => {}
            Event::Warning(what) => {
                self.finish();
                eprintln!("warning: {what}");
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
