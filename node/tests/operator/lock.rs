//! A data folder that another process works with for a moment.

use std::fs::File;
use std::thread;
use std::time::Duration;

use testnet::{Process, Result};

use super::{PROGRAM, said};

/// How long somebody else has the folder: less than a start and a command wait.
const MOMENT: Duration = Duration::from_millis(1_500);

/// Has the folder for a moment.
fn have(node: &Process) -> Result<thread::JoinHandle<()>> {
    let lock = File::options().write(true).open(node.data().join("store/lock"))?;
    lock.try_lock()?;
    Ok(thread::spawn(move || {
        thread::sleep(MOMENT);
        drop(lock);
    }))
}

#[tokio::test]
async fn a_start_and_a_command_wait_for_who_has_the_folder_for_a_moment() -> Result {
    let mut node = Process::builder(PROGRAM).prepare()?;
    node.launch().await?;
    assert_eq!(node.stop().await?, Some(0));
    for words in [&["user", "list"][..], &["verify"], &["user", "add", "ada"]] {
        let other = have(&node)?;
        let done = node.command(words[0]).args(&words[1..]).output().await?;
        assert!(done.status.success(), "{words:?}: {}", said(&done));
        other.join().expect("ends");
    }
    let other = have(&node)?;
    node.launch().await?;
    other.join().expect("ends");
    // Who has it for long is named.
    let second = node.command("serve").output().await?;
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    assert!(said(&second).contains("in use by another process"), "{}", said(&second));
    assert_eq!(node.stop().await?, Some(0));
    Ok(())
}
