//! The `lawvere` command: it parses, calls and prints.

mod args;
mod geometry;
mod index;
mod information;
mod metric;
mod model;
mod output;
mod train;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::output::Screen;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cli.global.threads.into());
    if let Err(error) = pool.build_global() {
        eprintln!("error: the threads cannot be started: {error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = outlive_full_disks() {
        eprintln!("error: a signal cannot be handled: {error}");
        return ExitCode::FAILURE;
    }
    let mut screen = Screen::new(cli.global.quiet);
    let result = match cli.command {
        Command::Index(command) => command.run(&cli.global, &mut screen),
        Command::Observe(args) => args.run(&cli.global, &mut screen),
        Command::Train(args) => args.run(&cli.global, &mut screen),
        Command::Stories(args) => args.run(&cli.global),
        Command::Report(args) => args.run(&cli.global, &mut screen),
        Command::Model(command) => command.run(&cli.global, &mut screen),
        Command::Metric(command) => command.run(&cli.global, &mut screen),
        Command::Geometry(command) => command.run(&cli.global, &mut screen),
        Command::Information(command) => command.run(&cli.global, &mut screen),
    };
    screen.finish();
    match result {
        Ok(text) => match writeln!(std::io::stdout(), "{text}") {
            // A reader that has seen enough (`| head`) is no failure.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                eprintln!("error: standard output: {error}");
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        },
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    }
}

/// A file that may not grow any more (`ulimit -f`) is then an error of the write, as a full disk is, and does not
/// end the command without a word.
fn outlive_full_disks() -> std::io::Result<()> {
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default())?;
    Ok(())
}
