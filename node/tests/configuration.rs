//! What is wrong with a configuration is said at once, by `serve` and by `config check` alike.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::path::Path;
use std::process::Stdio;

use rcgen::generate_simple_self_signed;
use serde_json::Value;
use testnet::Result;
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");

/// What came of a command in an environment without other variables of the node.
struct Outcome {
    code: Option<i32>,
    out: String,
    error: String,
}

async fn run(folder: &Path, words: &[&str], variables: &[(&str, &str)]) -> Result<Outcome> {
    let mut command = Command::new(PROGRAM);
    command.args(words).arg("--data").arg(folder).envs(variables.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(20), command.output());
    let output = output.await??;
    Ok(Outcome {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        error: String::from_utf8(output.stderr)?,
    })
}

/// The problems that `config check --json` finds.
async fn problems(folder: &Path, variables: &[(&str, &str)]) -> Result<Vec<Value>> {
    let checked = run(folder, &["config", "check", "--json"], variables).await?;
    if checked.code == Some(0) {
        return Ok(Vec::new());
    }
    assert_eq!(checked.code, Some(2), "{}", checked.error);
    assert_eq!(checked.out, "");
    let answer: Value = serde_json::from_str(&checked.error)?;
    Ok(answer["problems"].as_array().expect("problems").clone())
}

#[tokio::test]
async fn every_problem_is_said_at_once_with_where_it_comes_from() -> Result {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.toml");
    let text = "[api]\nlisten = \"nonsense\"\nmax_connections = 0\ntls_certificate = \"/no/such.pem\"\n\
        lisen = \"0.0.0.0:1\"\npublic_url = \"im.example.org\"\n\n\
        [ws]\nlisten = \"no-such-host.invalid:10001\"\ntls_key = \"/no/such.key\"\ncache = 5\n\n\
        [chat]\nretain_days = -3\nmessage_max = \"9999999\"\n\n\
        [auth]\nmulti_login_policy = 2\nadmin_users = [\"no good\"]\n\n\
        [federation]\ndomain = \"Not A Domain\"\ndeny = [\"x y\"]\naddresses = [\"127.0.0.1:1\"]\n\
        policy = \"shut\"\nrelay_for = [\"12D3\"]\n\n\
        [log]\nformat = \"xml\"\n\n\
        [notification.member_quits]\nis_send_msg = true\n\n\
        [notification.member_quit]\nis_send_msg = \"yes\"\n\n[objects]\nmax_mib = 1\n";
    std::fs::write(&file, text)?;
    let variables = [
        ("ENTENTE_API_LISTN", "127.0.0.1:1"),
        ("ENTENTE_LOG_LEVEL", "loud"),
        ("ENTENTE_AUTH_SECRET", "hunter2"),
        ("ENTENTE_CHAT_DEDUPE", "a day"),
        ("ENTENTE_AUTH_TOKEN_EXPIRE_DAYS", "0"),
    ];
    let line = |n: usize| format!("{}, line {n}", file.display());
    let expected = [
        ("api.listen", "\"nonsense\"", "HOST:PORT", line(2)),
        ("api.max_connections", "0", "from 1 to", line(3)),
        ("api.tls_certificate", "\"/no/such.pem\"", "No such file", line(4)),
        ("api.lisen", "", "did you mean api.listen?", line(5)),
        ("api.public_url", "\"im.example.org\"", "https://", line(6)),
        ("ws.listen", "\"no-such-host.invalid:10001\"", "has no address", line(9)),
        ("ws.tls_key", "\"/no/such.key\"", "No such file", line(10)),
        ("ws.cache", "", "it belongs to [store]", line(11)),
        ("chat.retain_days", "-3", "it is retain now, and must be a span of time", line(14)),
        ("chat.message_max", "\"9999999\"", "to 60 KiB", line(15)),
        ("auth.multi_login_policy", "2", "0, 1, 4 or 5", line(18)),
        ("auth.admin_users", "[\"no good\"]", "' '", line(19)),
        ("federation.domain", "\"Not A Domain\"", "im.example.org", line(22)),
        ("federation.deny", "[\"x y\"]", "not a domain", line(23)),
        ("federation.addresses", "[\"127.0.0.1:1\"]", "multiaddr", line(24)),
        ("federation.policy", "\"shut\"", "open or closed", line(25)),
        ("federation.relay_for", "[\"12D3\"]", "peer ID", line(26)),
        ("log.format", "\"xml\"", "text or json", line(29)),
        ("notification.member_quits", "", "did you mean notification.member_quit?", line(31)),
        ("notification.member_quit.is_send_msg", "\"yes\"", "true or false", line(35)),
        ("objects", "", "did you mean object?", line(37)),
        (
            "ENTENTE_API_LISTN",
            "",
            "did you mean ENTENTE_API_LISTEN?",
            "variable ENTENTE_API_LISTN".into(),
        ),
        ("log.level", "\"loud\"", "error, warn", "variable ENTENTE_LOG_LEVEL".into()),
        ("auth.secret", "", "at least 8 bytes", "variable ENTENTE_AUTH_SECRET".into()),
        (
            "chat.dedupe",
            "\"a day\"",
            "a span of time such as",
            "variable ENTENTE_CHAT_DEDUPE".into(),
        ),
        (
            "auth.token_expire_days",
            "0",
            "from 1m",
            "variable ENTENTE_AUTH_TOKEN_EXPIRE_DAYS".into(),
        ),
    ];
    let found = problems(folder.path(), &variables).await?;
    for (key, value, problem, from) in &expected {
        let one = found.iter().find(|one| one["key"] == *key);
        let one = one.unwrap_or_else(|| panic!("nothing of {key}: {found:#?}"));
        assert_eq!(one["value"].as_str().unwrap_or_default(), *value, "{key}");
        assert!(one["problem"].as_str().is_some_and(|text| text.contains(problem)), "{one}");
        assert_eq!(one["from"], *from, "{key}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");

    // For people, and by `serve`, which makes nothing then.
    for words in [&["config", "check"][..], &["serve"], &[]] {
        let checked = run(folder.path(), words, &variables).await?;
        assert_eq!(checked.code, Some(2), "{words:?}: {}", checked.error);
        let count = format!("has {} problems", expected.len());
        assert!(checked.error.contains(&count), "{words:?}: {}", checked.error);
        let said = "chat.dedupe = \"a day\": must be a span of time such as 90s, 24h or 30d";
        assert!(checked.error.contains(said), "{}", checked.error);
        assert!(!checked.error.contains("hunter2"), "{}", checked.error);
        assert!(!folder.path().join("secret").exists());
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_no_toml_is_named_with_the_line() -> Result {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[api]\nlisten = \"127.0.0.1:1\"\n\n[ws\n")?;
    let found = problems(folder.path(), &[]).await?;
    assert_eq!(found[0]["from"], format!("{}, line 4", file.display()), "{found:?}");
    let named = folder.path().join("missing.toml");
    let words = ["config", "check", "--config", named.to_str().expect("text")];
    let checked = run(folder.path(), &words, &[]).await?;
    assert_eq!(checked.code, Some(2), "{}", checked.error);
    assert!(checked.error.contains("missing.toml"), "{}", checked.error);
    Ok(())
}

#[tokio::test]
async fn a_secret_comes_from_a_file_and_is_never_shown() -> Result {
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("mounted");
    let name = secret.to_str().expect("text");
    let variable = [("ENTENTE_AUTH_SECRET_FILE", name)];
    let of_file = format!("{name}, named by ENTENTE_AUTH_SECRET_FILE");
    let missing = problems(folder.path(), &variable).await?;
    assert_eq!(missing[0]["from"], of_file, "{missing:?}");
    for (text, right) in [("correct horse\n", true), ("short\n", false), ("\n", false)] {
        std::fs::write(&secret, text)?;
        let found = problems(folder.path(), &variable).await?;
        assert_eq!(found.is_empty(), right, "{text:?}: {found:?}");
        assert!(found.iter().all(|one| one["from"] == of_file), "{found:?}");
        assert!(!format!("{found:?}").contains("short"), "{found:?}");
    }
    // Which of the two would count is not for anybody to guess.
    let both = [variable[0], ("ENTENTE_AUTH_SECRET", "another secret")];
    assert_eq!(problems(folder.path(), &both).await?.len(), 1);
    // The default of OpenIM, for those who come from there.
    assert!(problems(folder.path(), &[("ENTENTE_AUTH_SECRET", "openIM123")]).await?.is_empty());
    std::fs::write(folder.path().join("secret"), "weak\n")?;
    let found = problems(folder.path(), &[]).await?;
    assert_eq!(found[0]["from"], folder.path().join("secret").to_str().expect("text"));
    Ok(())
}

#[tokio::test]
async fn a_certificate_and_its_key_belong_together() -> Result {
    let folder = tempfile::tempdir()?;
    let (one, other) = (
        generate_simple_self_signed(["localhost".to_owned()])?,
        generate_simple_self_signed(["localhost".to_owned()])?,
    );
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (certificate, key, wrong) = (path("one.pem"), path("one.key"), path("other.key"));
    std::fs::write(&certificate, one.cert.pem())?;
    std::fs::write(&key, one.key_pair.serialize_pem())?;
    std::fs::write(&wrong, other.key_pair.serialize_pem())?;
    for section in ["API", "WS"] {
        let (first, second) =
            (format!("ENTENTE_{section}_TLS_CERTIFICATE"), format!("ENTENTE_{section}_TLS_KEY"));
        let both = |key| [(first.as_str(), certificate.as_str()), (second.as_str(), key)];
        assert!(problems(folder.path(), &both(&key)).await?.is_empty());
        for (variables, said) in [
            (vec![both(&key)[0]], "tls_key is missing"),
            (vec![both(&key)[1]], "tls_certificate is missing"),
            (both(&wrong).to_vec(), "does not belong to"),
            (both(&certificate).to_vec(), "private key"),
            (vec![(first.as_str(), key.as_str()), both(&key)[1]], "no certificate"),
        ] {
            let found = problems(folder.path(), &variables).await?;
            assert_eq!(found.len(), 1, "{variables:?}: {found:?}");
            assert!(found[0].to_string().contains(said), "{said}: {found:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn log_filters_are_levels() -> Result {
    let folder = tempfile::tempdir()?;
    for (filter, right) in [
        ("info", true),
        ("WARN", true),
        ("off", true),
        ("info,client_api=debug", true),
        ("warn,federation::transport=trace", true),
        ("loud", false),
        ("info,client_api", false),
        ("client_api=chatty", false),
        ("=info", false),
        ("", false),
    ] {
        let found = problems(folder.path(), &[("ENTENTE_LOG_LEVEL", filter)]).await?;
        assert_eq!(found.is_empty(), right, "{filter:?}: {found:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_others_set_is_left_alone() -> Result {
    let folder = tempfile::tempdir()?;
    // Kubernetes sets these for a service named entente.
    let variables = [
        ("ENTENTE_SERVICE_HOST", "10.0.0.1"),
        ("ENTENTE_SERVICE_PORT_API", "10002"),
        ("ENTENTE_PORT", "tcp://10.0.0.1:10002"),
        ("ENTENTE_PORT_10002_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(problems(folder.path(), &variables).await?.is_empty());
    let same = [("ENTENTE_API_LISTEN", "127.0.0.1:7"), ("ENTENTE_WS_LISTEN", "0.0.0.0:7")];
    assert_eq!(problems(folder.path(), &same).await?.len(), 1, "one port for two");
    let options = run(folder.path(), &["serve", "--api", "nowhere"], &[]).await?;
    assert_eq!(options.code, Some(2));
    assert!(options.error.contains("(option --api)"), "{}", options.error);
    Ok(())
}

#[tokio::test]
async fn platforms_that_do_not_exist_are_refused() -> Result {
    let folder = tempfile::tempdir()?;
    for platform in ["99", "0", "-1", "10", "web"] {
        let word = format!("--platform={platform}");
        let refused = run(folder.path(), &["user", "token", "ada", &word], &[]).await?;
        assert_eq!(refused.code, Some(2), "{platform}: {}", refused.error);
        assert!(refused.error.contains("5 Web"), "{}", refused.error);
    }
    Ok(())
}
