//! `tidelog`: looks into stores, backs them up, repairs them.

mod args;
mod confirm;
mod error;
mod event;
mod output;
mod select;
mod stop;
mod table;
mod text;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use self::args::Cli;
use self::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Output::stdout(cli.json);
    let done = verbs::run(cli.verb, &mut out);
    match done.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            out.tell(&error);
            error.exit_code()
        }
    }
}
