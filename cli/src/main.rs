//! The `calque` command: flags in, library call, report out.

mod app;
mod arguments;
mod command;
mod human;
mod interrupt;
mod not_yet;
mod output;
mod report;
mod settings;
mod table;
mod template;
mod terminal;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    app::main(std::env::args_os().collect())
}
