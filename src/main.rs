//! The `reelflow` command.

fn main() -> std::process::ExitCode {
    reelflow::cli::main()
}
