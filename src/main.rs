//! The `becalm` command.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    becalm::cli::main()
}
