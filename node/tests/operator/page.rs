//! The page of backup and restore in the docs, as it is written.

use std::path::Path;

use testnet::Result;
use tokio::process::Command;

use super::{PROGRAM, done, said, serving, stop};

const PAGE: &str = include_str!("../../../docs/operations.md");

/// The commands of a section, block by block; only where things lie is another place.
fn blocks(root: &Path, section: &str) -> Vec<String> {
    let page = PAGE.split(&format!("## {section}\n")).nth(1).expect("the page");
    let page = page.split("\n## ").next().expect("its end");
    let blocks =
        page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("an end"));
    let at = |text: &str, place: &str| text.replace(place, &format!("{}{place}", root.display()));
    let places = ["/var/lib/entente", "/etc/entente", "/backup"];
    blocks.map(|text| places.iter().fold(text.to_owned(), |text, place| at(&text, place))).collect()
}

async fn typed(root: &Path, block: &str) -> Result<String> {
    let path = format!("{}:{}", root.display(), std::env::var("PATH")?);
    let output = Command::new("bash").args(["-euc", block]).env("PATH", path).output().await?;
    anyhow::ensure!(output.status.success(), "{block}{}", said(&output));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_backup_and_restore_does_what_it_says() -> Result {
    let scratch = tempfile::tempdir()?;
    let root = scratch.path();
    std::os::unix::fs::symlink(PROGRAM, root.join("entente"))?;
    for folder in ["var/lib", "etc/entente", "backup"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::write(root.join("etc/entente/passphrase"), "a passphrase of the night\n")?;
    let backups = blocks(root, "Backup and restore");
    let [backup, restore] = <[String; 2]>::try_from(backups).expect("two blocks");
    let full = blocks(root, "Disk full").swap_remove(0);

    let data = root.join("var/lib/entente");
    done(&data, &["init"]).await?;
    let key = done(&data, &["federation", "key", "show"]).await?;
    let secret = std::fs::read(data.join("secret"))?;
    let (child, _) = serving(&data).await?;
    done(&data, &["user", "add", "ada"]).await?;
    typed(root, &backup).await?;
    done(&data, &["user", "add", "later"]).await?;
    typed(root, &full).await?;
    stop(child).await?;

    // In the folder as it is, and on a new machine, where the first line falls away.
    let (_, on_a_new_machine) = restore.split_once('\n').expect("lines");
    for new in [false, true] {
        if new {
            std::fs::remove_dir_all(&data)?;
            typed(root, on_a_new_machine).await?;
        } else {
            typed(root, &restore).await?;
            assert!(data.join("store.damaged").exists());
        }
        let users = done(&data, &["user", "list"]).await?;
        assert!(users.contains("ada") && !users.contains("later"), "{users}");
        assert_eq!(done(&data, &["federation", "key", "show"]).await?, key);
        assert_eq!(std::fs::read(data.join("secret"))?, secret);
        let (child, _) = serving(&data).await?;
        stop(child).await?;
    }
    Ok(())
}
