//! Runs a script of `tests/reference/` with a Python that has what the script needs, or says why not.

use std::path::Path;
use std::process::Command;

/// Runs `script` on `folder` with `python3`, or with the program named by `REELFLOW_PYTHON`. False, after
/// a line that nobody takes for a pass, if there is no such program or it lacks a package.
#[track_caller]
pub fn run(script: &str, folder: &Path, needs: &str) -> bool {
    let python = std::env::var("REELFLOW_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(script);
    let why = match Command::new(&python).arg("-B").arg(path).arg(folder).output() {
        Err(error) => format!("`{python}` does not start: {error}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            match output.status.code() {
                Some(0) => {
                    println!("{said}");
                    return true;
                }
                Some(77) => said.trim().to_owned(),
                _ => panic!("{script}: {said}{}", String::from_utf8_lossy(&output.stderr)),
            }
        }
    };
    // Past the capture of the test harness.
    use std::io::Write;
    let help = format!("set REELFLOW_PYTHON to a Python with {needs}");
    let line = format!("SKIPPED: comparison by {script}: {why}; {help}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
    false
}
