//! How a proof begins and ends that can be played on a program which is broken on purpose.

use std::path::Path;

use anyhow::ensure;

use crate::Result;

/// The program to try must be there.
pub(crate) fn must_exist(program: &Path) -> Result {
    ensure!(program.exists(), "there is no program {}: cargo build --release", program.display());
    Ok(())
}

/// Whether it has failed just where it must; says so of a program that must fail.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub(crate) fn is_as_expected(failed: bool, must_fail: bool) -> bool {
    if must_fail {
        println!("{}", if failed { "caught, as it must be" } else { "the fault was NOT caught" });
    }
    failed == must_fail
}
