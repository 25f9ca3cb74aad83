//! A backup brings everything back, a restore happens as a whole or not at all.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testnet::{Admin, Process, Rest, Result, Wire};

use super::{PROGRAM, command, done, run, said, serving, stop};

const PASSPHRASE: &str = "correct horse battery staple";

/// Users that make a restore take a while, with about as many kilobytes.
const USERS: usize = 20_000;

fn with_passphrase(data: &Path, words: &[&str]) -> tokio::process::Command {
    let mut command = command(data, words);
    command.env("ENTENTE_BACKUP_PASSPHRASE", PASSPHRASE);
    command
}

/// What is in a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_is_seen_and_begins_anew() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let admin = node.admin().await?;
    let ids: Vec<usize> = (0..USERS).collect();
    for chunk in ids.chunks(1_000) {
        let user =
            |id| json!({ "userID": format!("u{id}"), "nickname": "N", "ex": "x".repeat(1_000) });
        let users: Vec<Value> = chunk.iter().map(user).collect();
        admin.client.call("/user/user_register", json!({ "users": users })).await?;
    }
    let file = node.scratch().join("backup").display().to_string();
    assert!(node.command("backup").arg(&file).output().await?.status.success());
    // How long it takes undisturbed.
    let began = Instant::now();
    let mut other = Process::builder(PROGRAM).prepare()?;
    let output = other.command("restore").arg(&file).output().await?;
    assert!(output.status.success(), "{}", said(&output));
    let takes = began.elapsed();
    let expected = done(&other.data(), &["user", "list", "--json"]).await?;

    let (mut cut, kills) = (0, 10_u32);
    for kill in 0..=kills {
        other = Process::builder(PROGRAM).prepare()?;
        let data = other.data();
        // The last one is killed when the first file gets its place, just before the end.
        let mut restore = other.command("restore").arg(&file).spawn()?;
        let began = Instant::now();
        while restore.try_wait()?.is_none() {
            let due = if kill == kills {
                data.join("secret").exists()
            } else {
                data.join("restoring").exists() && began.elapsed() >= takes * kill / kills
            };
            if due {
                restore.kill().await?;
                break;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        if data.join("store").exists() {
            // It had happened.
            assert_eq!(done(&data, &["user", "list", "--json"]).await?, expected);
            continue;
        }
        cut += 1;
        for words in [
            &["serve", "--api", "127.0.0.1:0", "--ws", "127.0.0.1:0"][..],
            &["init"],
            &["user", "list"],
            &["user", "add", "eve"],
            &["verify"],
            &["backup", "/dev/null"],
            &["federation", "key", "show"],
        ] {
            let refused = run(&data, words).await?;
            let text = said(&refused);
            assert_eq!(refused.status.code(), Some(3), "{words:?}: {text}");
            for word in
                ["was cut short", "Run `entente restore` again", &data.display().to_string()]
            {
                assert!(text.contains(word), "{words:?}: no {word:?} in {text}");
            }
        }
        assert!(!data.join("store").exists(), "something was made");
        let again = other.command("restore").arg(&file).output().await?;
        assert!(again.status.success(), "kill {kill}: {}", said(&again));
        assert!(!names(&data).iter().any(|name| name.contains("restoring")));
        done(&data, &["verify"]).await?;
        assert_eq!(done(&data, &["user", "list", "--json"]).await?, expected, "kill {kill}");
        other.launch().await?;
        assert_eq!(other.stop().await?, Some(0));
    }
    assert!(cut >= 4, "only {cut} restores were cut short: the case tests little");

    // As older programs have left it.
    let old = Process::builder(PROGRAM).prepare()?;
    std::fs::create_dir_all(old.data().join("store.restoring"))?;
    let refused = run(&old.data(), &["user", "list"]).await?;
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    let again = old.command("restore").arg(&file).output().await?;
    assert!(again.status.success(), "{}", said(&again));
    assert!(!old.data().join("store.restoring").exists());
    Ok(())
}

fn url(ready: &Value, key: &str) -> String {
    ready[key].as_str().expect("a URL").trim_end_matches('/').to_owned()
}

/// A node that federates, without anything in its environment.
async fn federating(data: &Path) -> Result<(tokio::process::Child, Value, Rest)> {
    if data.join("config.toml").exists() {
        let config = std::fs::read_to_string(data.join("config.toml"))?;
        let mark = "# listen = \"0.0.0.0:10003\"";
        if config.contains(mark) {
            let config = config.replace(mark, "listen = \"127.0.0.1:0\"");
            let domain = config.replace("# domain = \"\"", "domain = \"alpha.example\"");
            std::fs::write(data.join("config.toml"), domain)?;
        }
    }
    let (child, ready) = serving(data).await?;
    let rest = Rest::new(url(&ready, "api"), url(&ready, "ws"));
    Ok((child, ready, rest))
}

async fn backup(data: &Path, words: &[&str]) -> Result<(String, PathBuf)> {
    let words: Vec<&str> = ["backup", "--json"].iter().chain(words).copied().collect();
    let output = with_passphrase(data, &words).output().await?;
    anyhow::ensure!(output.status.success(), "{words:?}: {}", said(&output));
    let text = String::from_utf8(output.stdout)?;
    let result: Value = serde_json::from_str(&text)?;
    let file = result["file"].as_str().unwrap_or_default().into();
    Ok((text, file))
}

async fn restore(data: &Path, file: &Path, words: &[&str]) -> Result<String> {
    let mut command = with_passphrase(data, &["restore"]);
    let output = command.args(words).arg(file).output().await?;
    anyhow::ensure!(output.status.success(), "{words:?}: {}", said(&output));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_is_the_same_to_everybody() -> Result {
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    done(&data, &["init"]).await?;
    let key = done(&data, &["federation", "key", "show"]).await?;
    let peer = done(&scratch.path().join("peer"), &["federation", "key", "show"]).await?;
    let (child, ready, rest) = federating(&data).await?;
    assert_eq!(ready["federation"]["domain"], "alpha.example");
    let pin = ["federation", "pin", "beta.example", peer.trim(), "/ip4/127.0.0.1/udp/9/quic-v1"];
    done(&data, &pin).await?;
    let secret = std::fs::read_to_string(data.join("secret"))?;
    let admin = Admin::log_in(rest, "imAdmin", secret.trim()).await?;
    let [ada, bob] = admin.users(["ada", "bob"]).await?;
    ada.connect(Wire::JSON).await?.send_text("bob", "kept").await?;
    let content: Vec<u8> = (0..700_000_u32).map(|n| (n % 249) as u8).collect();
    let link = testnet::upload::upload(&ada, "ada/p.bin", "application/x", &content).await?;
    let config = std::fs::read(data.join("config.toml"))?;
    for serving in [true, false] {
        let out = scratch.path().join(format!("out-{serving}"));
        std::fs::create_dir(&out)?;
        let out = out.display().to_string();
        backup(&data, &[&out]).await?;
    }
    let file = {
        let out = scratch.path().join("out-true");
        let names = names(&out);
        assert_eq!(names.len(), 1, "{names:?}");
        let stamp = names[0].strip_prefix("entente-alpha.example-").expect("named by its domain");
        let stamp = stamp.strip_suffix("Z.backup").expect("named by its time");
        assert_eq!(stamp.len(), "20261130T014501".len(), "{stamp}");
        out.join(&names[0])
    };
    stop(child).await?;
    let bytes = std::fs::read(&file)?;
    for secret in [secret.trim().as_bytes(), &std::fs::read(data.join("identity.json"))?[..60]] {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "a secret is readable");
    }

    // On a machine that has nothing, and on one that was just set up.
    for set_up in [false, true] {
        let new = scratch.path().join(format!("new-{set_up}"));
        if set_up {
            done(&new, &["init"]).await?;
            done(&new, &["federation", "key", "show"]).await?;
        }
        let told = restore(&new, &file, &[]).await?;
        assert_eq!(told.matches("is kept").count(), if set_up { 3 } else { 0 }, "{told}");
        done(&new, &["verify"]).await?;
        assert_eq!(std::fs::read_to_string(new.join("secret"))?.trim(), secret.trim());
        assert_eq!(std::fs::read(new.join("config.toml"))?.trim_ascii(), config.trim_ascii());
        assert_eq!(done(&new, &["federation", "key", "show"]).await?, key);
        let peers = done(&new, &["federation", "peers"]).await?;
        assert!(peers.contains("beta.example"), "{peers}");
        let (child, ready, rest) = federating(&new).await?;
        assert_eq!(ready["federation"]["domain"], "alpha.example");
        // Tokens of before.
        for client in [&admin.client, &ada, &bob] {
            let client = testnet::Client {
                rest: rest.clone(),
                user_id: client.user_id.clone(),
                platform_id: client.platform_id,
                token: client.token.clone(),
            };
            let found = client.call("/user/get_users_info", json!({ "userIDs": ["ada"] })).await?;
            assert_eq!(found["usersInfo"][0]["userID"], "ada");
            if client.user_id == "bob" {
                let history = client.connect(Wire::JSON).await?.history("ada").await?;
                assert_eq!(history.len(), 1);
            }
        }
        let path = link.split_once("/object/").expect("a link").1;
        let got = reqwest::get(format!("{}/object/{path}", rest.api())).await?;
        let status = got.status();
        assert!(got.bytes().await? == content, "another file came back, with {status}");
        stop(child).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_is_said() -> Result {
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    done(&data, &["init"]).await?;
    done(&data, &["user", "add", "ada"]).await?;
    done(&data, &["federation", "key", "show"]).await?;
    let path = |name: &str| scratch.path().join(name);
    let text = |name: &str| path(name).display().to_string();

    let refused = run(&data, &["backup", &text("none")]).await?;
    assert_eq!(refused.status.code(), Some(1));
    for word in
        ["passphrase", "--passphrase-file", "ENTENTE_BACKUP_PASSPHRASE", "--without-secrets"]
    {
        assert!(said(&refused).contains(word), "{}", said(&refused));
    }
    assert!(!names(scratch.path()).iter().any(|name| name.contains("none")));
    let out =
        done(&data, &["backup", &text("plain"), "--without-secrets", "--without-objects"]).await?;
    for word in ["the secret", "the keys of the node", "identity.json", "uploaded files"] {
        assert!(out.contains(word), "no {word} in {out}");
    }
    let new = path("new");
    let told = done(&new, &["restore", &text("plain")]).await?;
    assert!(told.contains("Not in the backup: the secret"), "{told}");
    assert!(done(&new, &["user", "list"]).await?.contains("ada"));

    // A configuration with a secret in it is one.
    std::fs::write(data.join("config.toml"), "[auth]\nsecret = \"a secret in it\"\n")?;
    let out = done(&data, &["backup", &text("more"), "--without-secrets"]).await?;
    assert!(out.contains("config.toml: a secret is in it"), "{out}");
    let bytes = std::fs::read(path("more"))?;
    assert!(!bytes.windows(14).any(|part| part == b"a secret in it"));

    // A file that is there stays, unless told; one without a passphrase does not open.
    backup(&data, &[&text("sealed")]).await?;
    let before = std::fs::read(path("sealed"))?;
    let again = with_passphrase(&data, &["backup", &text("sealed")]).output().await?;
    assert_eq!(again.status.code(), Some(1));
    for word in [&text("sealed"), "already", "--force"] {
        assert!(said(&again).contains(word), "{}", said(&again));
    }
    assert!(std::fs::read(path("sealed"))? == before);
    backup(&data, &[&text("sealed"), "--force"]).await?;
    assert!(std::fs::read(path("sealed"))? != before);
    let nowhere = format!("{}/", text("nowhere"));
    let refused = with_passphrase(&data, &["backup", &nowhere]).output().await?;
    assert!(said(&refused).contains("there is no folder"), "{}", said(&refused));

    // When something is in the way of the last steps, it is seen that they are missing.
    let blocked = path("blocked");
    std::fs::create_dir_all(blocked.join("secret.new"))?;
    let refused = with_passphrase(&blocked, &["restore", &text("sealed")]).output().await?;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("is not complete"), "{}", said(&refused));
    let refused = run(&blocked, &["user", "list"]).await?;
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    std::fs::remove_dir(blocked.join("secret.new"))?;
    restore(&blocked, &path("sealed"), &[]).await?;
    assert!(done(&blocked, &["user", "list"]).await?.contains("ada"));

    let locked = path("locked");
    for (passphrase, why) in [(None, "a passphrase"), (Some("another one"), "is not the one")] {
        let mut command = command(&locked, &["restore", &text("sealed")]);
        passphrase.map(|passphrase| command.env("ENTENTE_BACKUP_PASSPHRASE", passphrase));
        let refused = command.output().await?;
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains(why), "{}", said(&refused));
        assert!(!locked.exists(), "something was made");
    }
    done(&locked, &["restore", &text("sealed"), "--without-secrets"]).await?;
    assert!(!locked.join("identity.json").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_changes_nothing() -> Result {
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    done(&data, &["init"]).await?;
    done(&data, &["user", "add", "ada"]).await?;
    let file = scratch.path().join("file");
    backup(&data, &[&file.display().to_string()]).await?;
    let whole = std::fs::read(&file)?;
    let (new, set_up) = (scratch.path().join("new"), scratch.path().join("set-up"));
    done(&set_up, &["init"]).await?;
    let before = names(&set_up);
    let secret = std::fs::read(set_up.join("secret"))?;
    let cases = (1..12).map(|n| n * whole.len() / 12);
    for (at, cut) in cases.flat_map(|at| [(at, false), (at, true)]) {
        let mut damaged = whole.clone();
        if cut {
            damaged.truncate(at);
        } else {
            damaged[at] ^= 4;
        }
        std::fs::write(&file, damaged)?;
        for folder in [&new, &set_up] {
            let refused =
                with_passphrase(folder, &["restore", &file.display().to_string()]).output().await?;
            let text = said(&refused);
            assert_eq!(refused.status.code(), Some(1), "byte {at}: {text}");
            assert!(text.contains("begins at byte"), "byte {at}: {text}");
            assert!(text.contains("Nothing was changed"), "byte {at}: {text}");
        }
        assert!(!new.exists());
        assert_eq!(names(&set_up), before);
        assert_eq!(std::fs::read(set_up.join("secret"))?, secret);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_leaves_is_told_from_one_under_way() -> Result {
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    done(&data, &["init"]).await?;
    done(&data, &["user", "add", "ada"]).await?;
    let file = scratch.path().join("file").display().to_string();
    done(&data, &["backup", &file, "--without-secrets"]).await?;

    // The database has its place, and only clearing away was cut short.
    let left = data.join("restoring");
    std::fs::create_dir(&left)?;
    let lock = std::fs::File::create(left.join("lock"))?;
    assert!(done(&data, &["user", "list"]).await?.contains("ada"));
    let (child, _) = serving(&data).await?;
    assert!(!left.exists());
    stop(child).await?;
    drop(lock);

    // Somebody restores at this moment.
    let new = scratch.path().join("new");
    std::fs::create_dir_all(new.join("restoring/store"))?;
    let lock = std::fs::File::create(new.join("restoring/lock"))?;
    lock.lock()?;
    for words in [&["user", "list"][..], &["init"], &["restore", &file]] {
        let refused = run(&new, words).await?;
        let text = said(&refused);
        assert_eq!(refused.status.code(), Some(1), "{words:?}: {text}");
        assert!(text.contains("is being restored") || text.contains("is under way"), "{text}");
    }
    assert!(new.join("restoring/store").exists(), "it was cleared away");
    drop(lock);
    let cut = run(&new, &["user", "list"]).await?;
    assert_eq!(cut.status.code(), Some(3), "{}", said(&cut));
    done(&new, &["restore", &file]).await?;
    assert!(done(&new, &["user", "list"]).await?.contains("ada"));
    Ok(())
}
