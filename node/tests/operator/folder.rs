//! A data folder in the hands of an operator: made but never served, of somebody else, far down in
//! the tree, damaged.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;

use testnet::{Process, Result, text_message};
use tokio::process::Command;

use super::{PROGRAM, done, must_be_private, run, said, serving, stop};

/// A user who is nobody here.
const STRANGER: u32 = 65_534;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_never_served_takes_commands() -> Result {
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    let refused = run(&data, &["user", "list"]).await?;
    assert_eq!(refused.status.code(), Some(1));
    let text = said(&refused);
    assert!(text.contains("no data folder") && text.contains("entente init"), "{text}");
    assert!(!data.exists(), "looking made it");
    std::fs::create_dir(&data)?;
    let text = said(&run(&data, &["user", "list"]).await?);
    assert!(text.contains("holds no data") && text.contains("entente init"), "{text}");

    done(&data, &["init"]).await?;
    done(&data, &["verify"]).await?;
    done(&data, &["user", "add", "ada"]).await?;
    assert!(done(&data, &["user", "list"]).await?.contains("ada"));
    done(&data, &["federation", "peers"]).await?;
    let (child, _) = serving(&data).await?;
    assert!(done(&data, &["user", "list"]).await?.contains("ada"));
    stop(child).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_somebody_else_is_said_to_be_that() -> Result {
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    done(&data, &["init"]).await?;
    let root = std::fs::metadata(&data)?.uid() == 0;
    let (child, _) = serving(&data).await?;
    // Root may everything, so it runs the program as somebody who may not.
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755))?;
    let program = scratch.path().join("entente");
    if std::fs::hard_link(PROGRAM, &program).is_err() {
        std::fs::copy(PROGRAM, &program)?;
    }
    for (mode, child) in [(0o700, Some(child)), (0o700, None), (0o711, None)] {
        let mode = if root { mode } else { 0o000 };
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode))?;
        for words in [
            &["user", "add", "eve"][..],
            &["user", "list"],
            &["verify"],
            &["federation", "key", "show"],
            &["federation", "pin", "b.example", "12D3", "/ip4/127.0.0.1/udp/9/quic-v1"],
            &["health"],
            &["serve", "--api", "127.0.0.1:0", "--ws", "127.0.0.1:0"],
        ] {
            if words == ["health"] && child.is_none() && mode == 0o711 {
                // Nobody serves it, as anybody may see.
                continue;
            }
            let mut command = Command::new(&program);
            command.args(words).arg("--data").arg(&data).stdin(Stdio::null());
            if root {
                command.uid(STRANGER);
            }
            let output = command.output().await?;
            let text = said(&output);
            assert_ne!(output.status.code(), Some(0), "{words:?}");
            let plain = text.to_lowercase();
            assert!(plain.contains("permission denied"), "{words:?}: {text}");
            assert!(text.contains(&data.display().to_string()), "{words:?}: {text}");
            assert!(!text.contains("no data"), "{words:?}: {text}");
        }
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700))?;
        if let Some(child) = child {
            stop(child).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_a_node_far_down_in_the_tree() -> Result {
    let scratch = tempfile::tempdir()?;
    let mut data = scratch.path().to_owned();
    while data.as_os_str().len() < 300 {
        data.push("a-folder-in-a-folder");
    }
    let (child, _) = serving(&data).await?;
    done(&data, &["user", "add", "ada"]).await?;
    assert!(done(&data, &["user", "list"]).await?.contains("ada"));
    done(&data, &["health"]).await?;
    let mode = std::fs::metadata(data.join("control.sock"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    stop(child).await?;
    assert!(!data.join("control.sock").exists());
    // A socket that nobody listens on, as a crash leaves it.
    drop(std::os::unix::net::UnixListener::bind(scratch.path().join("s"))?);
    std::fs::rename(scratch.path().join("s"), data.join("control.sock"))?;
    assert!(done(&data, &["user", "list"]).await?.contains("ada"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_written_is_for_the_owner_only() -> Result {
    // With an open umask, in a folder that is open to everybody.
    let node = Process::builder(PROGRAM)
        .under(["sh", "-c", "umask 000; exec \"$@\"", "sh"])
        .argument("--federation")
        .argument("127.0.0.1:0")
        .argument("--domain")
        .argument("alpha.example");
    let mut node = node.start().await?;
    let data = node.data();
    let open = async |words: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 000; exec \"$@\"", "sh", PROGRAM]).args(words);
        let output = command.arg("--data").arg(&data).output().await?;
        anyhow::ensure!(output.status.success(), "{words:?}: {}", said(&output));
        Result::Ok(())
    };
    let [ada, bob] = node.admin().await?.users(["ada", "bob"]).await?;
    let mut socket = ada.connect(testnet::Wire::JSON).await?;
    socket.send(&text_message("ada", &bob.user_id, "for bob only")).await?;
    socket.send(&text_message("ada", "bob", &"long ".repeat(2_000))).await?;
    testnet::upload::upload(&ada, "ada/picture.png", "image/png", b"a picture").await?;
    open(&["federation", "key", "rotate"]).await?;
    let out = node.scratch().join("out");
    std::fs::create_dir(&out)?;
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o700))?;
    let (passphrase, out_text) = (node.scratch().join("passphrase"), out.display().to_string());
    std::fs::write(&passphrase, "a long passphrase\n")?;
    let passphrase = passphrase.display().to_string();
    for n in 0..2 {
        let file = format!("{out_text}/{n}.backup");
        // As a backup that was killed leaves it, or as somebody else made it.
        let partial = format!("{file}.partial");
        std::fs::write(&partial, "x")?;
        std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o666))?;
        if n == 1 {
            assert_eq!(node.stop().await?, Some(0));
        }
        open(&["backup", &file, "--passphrase-file", &passphrase]).await?;
    }
    must_be_private(&out);
    let restored = node.scratch().join("restored");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh", PROGRAM, "restore"]);
    command.arg(out.join("0.backup")).args(["--passphrase-file", &passphrase]);
    let output = command.arg("--data").arg(&restored).output().await?;
    assert!(output.status.success(), "{}", said(&output));
    must_be_private(&restored);
    assert!(restored.join("identity.json").exists() && restored.join("objects/content").exists());
    node.launch().await?;
    must_be_private(&node.data());
    node.stop().await?;
    must_be_private(&node.data());

    // A folder from before, open to everybody.
    std::fs::write(node.data().join("config.toml"), "[auth]\nsecret = \"another one\"\n")?;
    for path in ["store", "objects", "secret", "identity.json", "config.toml"] {
        let path = node.data().join(path);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
    }
    node.launch().await?;
    for path in ["store", "objects", "secret", "identity.json", "config.toml"] {
        let mode = std::fs::metadata(node.data().join(path))?.permissions().mode();
        assert_eq!(mode & 0o007, 0, "{path}");
    }
    assert_eq!(node.stop().await?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_open_is_told_in_plain_words() -> Result {
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    done(&data, &["init"]).await?;
    done(&data, &["user", "add", "ada"]).await?;
    let conf = data.join("store/conf");
    let good = std::fs::read(&conf)?;
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    std::fs::write(&conf, &flipped)?;
    for words in [
        &["serve", "--api", "127.0.0.1:0", "--ws", "127.0.0.1:0"][..],
        &["verify"],
        &["user", "list"],
        &["backup", "/dev/null"],
    ] {
        let refused = run(&data, words).await?;
        let text = said(&refused);
        assert_eq!(refused.status.code(), Some(3), "{words:?}: {text}");
        let store = data.join("store").display().to_string();
        for word in [&store, "damaged", "entente restore"] {
            assert!(text.contains(word), "{words:?}: no {word} in {text}");
        }
        let line = text.lines().find(|line| line.starts_with("entente: ")).expect("it says why");
        assert!(!line.contains("backtrace") && !line.contains("None"), "{line}");
    }
    assert_eq!(std::fs::read(&conf)?, flipped, "it was changed");
    std::fs::write(&conf, good)?;
    assert!(done(&data, &["user", "list"]).await?.contains("ada"));
    Ok(())
}
