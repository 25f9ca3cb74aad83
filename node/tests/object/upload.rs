use serde_json::{Value, json};
use store::record::Object;
use store::{StoreError, schema};
use testnet::{Node, Result};

use super::{
    PART, bytes, complete, download, files, hash, initiate, md5, part_md5s, part_url, put, upload,
};

#[tokio::test]
async fn a_small_file_is_uploaded_and_read() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let content = bytes(1_024, 1);
    let url = upload(&alice, "alice/pic.png", "image/png", &content).await?;
    let named = url.strip_prefix(&format!("{}/object/~", alice.rest.api())).expect("a mark");
    let (mark, name) = named.split_once('/').expect("a name");
    assert_eq!((mark.len(), name), (32, "alice/pic.png"));
    let response = download(&alice, &url).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "image/png");
    assert_eq!(response.bytes().await?, content);
    assert_eq!(files(&node.folder().join("objects")).len(), 1);
    node.stop().await
}

#[tokio::test]
async fn part_sizes_are_those_of_the_recordings() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let limits = alice.post("/object/part_limit", json!({})).await?;
    assert_eq!(
        limits.text,
        r#"{"errCode":0,"errMsg":"","errDlt":"","data":{"minPartSize":5242880,"maxPartSize":5368709120,"maxNumSize":10000}}"#
    );
    for (size, part) in [(1_i64, 5_242_880), (5_242_880, 5_242_880), (64_424_509_440, 6_442_451)] {
        let answer = alice.call("/object/part_size", json!({ "size": size })).await?;
        assert_eq!(answer, json!({ "size": part }));
    }
    for size in [0, -1, 1_000_000_000_000_000_000_i64] {
        assert_eq!(alice.refused("/object/part_size", json!({ "size": size })).await?, 500);
    }
    node.stop().await
}

#[tokio::test]
async fn answers_have_the_recorded_shape() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let api = alice.rest.api();
    let one = alice
        .call("/object/initiate_multipart_upload", initiate(&bytes(9, 0), "alice/a", "", 1))
        .await?;
    let [url, id, expires] = [
        &one["upload"]["sign"]["parts"][0]["url"],
        &one["upload"]["uploadID"],
        &one["upload"]["expireTime"],
    ];
    assert!(url.as_str().is_some_and(|url| url.starts_with(&format!("{api}/storage/upload/"))));
    assert!(expires.is_i64() && id.is_string());
    assert_eq!(
        one,
        json!({
            "url": "",
            "upload": {
                "uploadID": id, "partSize": PART, "expireTime": expires,
                "sign": {
                    "url": "", "query": null, "header": null,
                    "parts": [{ "partNumber": 1, "url": url, "query": null, "header": null }],
                },
            },
        })
    );
    let content = bytes(PART + 1, 0);
    let two = alice
        .call("/object/initiate_multipart_upload", initiate(&content, "alice/b", "", 1))
        .await?;
    let sign = &two["upload"]["sign"];
    assert!(sign["url"].as_str().is_some_and(|url| url.starts_with(api)));
    assert_eq!(sign["parts"].as_array().map(Vec::len), Some(1));
    assert_eq!(sign["parts"][0]["url"], "");
    assert_eq!(sign["parts"][0]["query"][0], json!({ "key": "partNumber", "values": ["1"] }));
    let request = json!({ "uploadID": two["upload"]["uploadID"], "partNumbers": [2, 1] });
    let signed = alice.call("/object/auth_sign", request).await?;
    let numbers: Vec<&Value> = [0, 1].map(|at| &signed["parts"][at]["partNumber"]).into();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(signed["url"], sign["url"]);
    let none = alice
        .call("/object/initiate_multipart_upload", initiate(&content, "alice/b", "", 0))
        .await?;
    assert!(none["upload"]["sign"].is_null());
    let all = alice
        .call("/object/initiate_multipart_upload", initiate(&content, "alice/b", "", -1))
        .await?;
    assert_eq!(all["upload"]["sign"]["parts"].as_array().map(Vec::len), Some(2));
    node.stop().await
}

#[tokio::test]
async fn parts_come_in_any_order_and_again() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let content = bytes(2 * PART + 77, 2);
    let request = initiate(&content, "alice/big.bin", "application/octet-stream", -1);
    let begun = alice.call("/object/initiate_multipart_upload", request).await?;
    let (upload, sign) = (&begun["upload"], &begun["upload"]["sign"]);
    let parts: Vec<Vec<u8>> = content.chunks(PART).map(<[u8]>::to_vec).collect();
    let done = complete(&content, upload, "alice/big.bin", "application/octet-stream");
    let finish = "/object/complete_multipart_upload";
    assert_eq!(put(&alice, part_url(sign, 2)?, parts[2].clone()).await?, 200);
    assert_eq!(put(&alice, part_url(sign, 0)?, bytes(PART, 9)).await?, 200);
    // Part 2 is missing, part 1 is another one.
    let answer = alice.post(finish, &done).await?;
    assert_eq!((answer.code, &answer.body["errDlt"]), (500, &json!("part 2 was not uploaded")));
    assert_eq!(put(&alice, part_url(sign, 1)?, parts[1].clone()).await?, 200);
    let answer = alice.post(finish, &done).await?;
    assert_eq!((answer.code, &answer.body["errDlt"]), (500, &json!("part 1 has another MD5")));
    assert_eq!(put(&alice, part_url(sign, 0)?, parts[0].clone()).await?, 200);
    let url = alice.call(finish, &done).await?["url"].clone();
    let response = download(&alice, url.as_str().unwrap_or_default()).await?;
    assert_eq!(response.bytes().await?, content);
    // The answer may have been lost.
    assert_eq!(alice.call(finish, &done).await?["url"], url);
    // Nothing but the content is left.
    assert_eq!(files(&node.folder().join("objects")).len(), 1);
    assert_eq!(put(&alice, part_url(sign, 0)?, parts[0].clone()).await?, 404);
    node.stop().await
}

#[tokio::test]
async fn a_part_must_be_the_announced_one() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let content = bytes(PART + 10, 3);
    let begun = alice
        .call("/object/initiate_multipart_upload", initiate(&content, "alice/f", "", -1))
        .await?;
    let sign = &begun["upload"]["sign"];
    for wrong in [vec![], bytes(9, 0), bytes(11, 0)] {
        assert_eq!(put(&alice, part_url(sign, 1)?, wrong).await?, 400);
    }
    // Without a Content-Length the bytes themselves tell.
    for (count, status) in [(9, 400), (11, 400), (10, 200)] {
        let chunks = vec![Ok::<_, std::io::Error>(bytes(count, 0))];
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
        let response = alice.rest.http().put(part_url(sign, 1)?).body(body).send().await?;
        assert_eq!(response.status(), status, "{count} bytes");
    }
    let tamper = |from: &str, to: &str| -> Result<reqwest::Url> {
        Ok(part_url(sign, 0)?.as_str().replace(from, to).parse()?)
    };
    for (from, to, status) in [
        ("partNumber=1", "partNumber=2", 403),
        ("partNumber=1", "partNumber=x", 400),
        ("expires=1", "expires=9", 403),
        ("signature=", "signature=A", 403),
        ("signature=", "other=", 400),
    ] {
        assert_eq!(put(&alice, tamper(from, to)?, bytes(PART, 0)).await?, status, "{from} {to}");
    }
    node.clock.advance(86_400_000 + 1);
    assert_eq!(put(&alice, part_url(sign, 1)?, bytes(10, 0)).await?, 403);
    assert_eq!(files(&node.folder().join("objects")).len(), 1);
    node.stop().await
}

#[tokio::test]
async fn content_that_is_stored_only_gets_another_name() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let content = bytes(100, 4);
    upload(&alice, "alice/a", "text/plain", &content).await?;
    let answer = bob
        .call("/object/initiate_multipart_upload", initiate(&content, "bob/b", "image/png", 1))
        .await?;
    let url = answer["url"].as_str().expect("a link");
    assert!(url.ends_with("/bob/b") && answer["upload"].is_null(), "{answer}");
    let response = download(&bob, url).await?;
    assert_eq!(response.headers()["content-type"], "image/png");
    assert_eq!(response.bytes().await?, content);
    assert_eq!(files(&node.folder().join("objects")).len(), 1);
    node.stop().await
}

#[tokio::test]
async fn a_name_can_be_pointed_elsewhere() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let objects = node.folder().join("objects");
    let [old, new] = [bytes(10, 5), bytes(20, 6)];
    let first = upload(&alice, "alice/a", "", &old).await?;
    upload(&alice, "alice/keeps", "", &old).await?;
    let url = upload(&alice, "alice/a", "", &new).await?;
    assert_eq!(download(&alice, &url).await?.bytes().await?, new);
    assert_eq!(url, first, "links to a name go on");
    assert_eq!(files(&objects).len(), 2);
    upload(&alice, "alice/keeps", "", &new).await?;
    // No name is left for the old content.
    assert_eq!(files(&objects).len(), 1);
    // It can come back.
    let url = upload(&alice, "alice/a", "", &old).await?;
    assert_eq!(download(&alice, &url).await?.bytes().await?, old);
    node.stop().await
}

#[tokio::test]
async fn uploads_at_the_same_time_share_the_content() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let content = bytes(PART + 5, 7);
    let names: Vec<String> = (0..6).map(|n| format!("alice/{n}")).collect();
    let uploads = names.iter().map(|name| upload(&alice, name, "", &content));
    for url in futures_util::future::try_join_all(uploads).await? {
        assert_eq!(download(&alice, &url).await?.bytes().await?, content);
    }
    assert_eq!(files(&node.folder().join("objects")).len(), 1);
    node.stop().await
}

#[tokio::test]
async fn bad_requests_are_refused_as_recorded() -> Result {
    let node = Node::builder().settings(|s| s.object_max_bytes = 2_000_000).start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let content = bytes(1_024, 8);
    let good = initiate(&content, "alice/a", "", 1);
    let path = "/object/initiate_multipart_upload";
    let long = format!("alice/{}", "x".repeat(1_024));
    for (key, value, code, detail) in [
        ("name", json!("bob/a"), 1002, "name must start with `alice/`"),
        ("name", json!(""), 1001, "name is empty"),
        ("name", json!("/a"), 1001, "name cannot start with `/`"),
        ("name", json!("  "), 1001, ""),
        ("name", json!(long), 1001, ""),
        ("name", json!("alice/../bob/a"), 1001, ""),
        ("name", json!("alice/a\u{0}b"), 1001, ""),
        ("name", json!("alicex/a"), 1002, ""),
        ("hash", json!("xyz"), 500, ""),
        ("hash", json!("g".repeat(32)), 500, ""),
        ("hash", json!("a".repeat(30)), 500, ""),
        ("size", json!(0), 500, "size must be greater than 0"),
        ("size", json!(-1), 500, ""),
        ("size", json!(2_000_001), 1001, ""),
        ("size", json!(i64::MAX), 500, ""),
        ("maxParts", json!(20), 500, "too many parts: 1"),
        ("contentType", json!("x".repeat(300)), 1001, ""),
        ("cause", json!("a\nb"), 1001, ""),
    ] {
        let mut request = good.clone();
        request[key] = value;
        let answer = alice.post(path, &request).await?;
        assert_eq!(answer.code, code, "{key}: {}", answer.text);
        if !detail.is_empty() {
            assert_eq!(answer.body["errDlt"], detail);
        }
    }
    let begun = alice.call(path, &good).await?;
    let id = begun["upload"]["uploadID"].clone();
    assert_eq!(put(&alice, part_url(&begun["upload"]["sign"], 0)?, content.clone()).await?, 200);
    let sign = |id: &Value| json!({ "uploadID": id, "partNumbers": [1] });
    assert_eq!(alice.refused("/object/auth_sign", sign(&id)).await?, 500);
    assert_eq!(alice.refused("/object/auth_sign", sign(&json!("x"))).await?, 500);
    assert_eq!(bob.refused("/object/auth_sign", sign(&id)).await?, 1002);
    let finish = "/object/complete_multipart_upload";
    let done = complete(&content, &begun["upload"], "alice/a", "");
    for (key, value, code) in [
        ("uploadID", json!("x"), 500),
        ("parts", json!(["9dd4e461268c8034f5c8564e155c67a6"]), 500),
        ("parts", json!([]), 500),
        ("parts", json!(vec!["x"; 10_001]), 500),
        ("name", json!("bob/a"), 1002),
        ("name", json!(""), 1001),
    ] {
        let mut request = done.clone();
        request[key] = value;
        assert_eq!(alice.refused(finish, &request).await?, code, "{key}");
    }
    let mut request = done.clone();
    request["name"] = json!("bob/a");
    assert_eq!(bob.refused(finish, &request).await?, 1002);
    alice.call(finish, &done).await?;
    node.stop().await
}

#[tokio::test]
async fn an_admin_uploads_for_everybody() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let alice = admin.user("alice").await?;
    let content = bytes(10, 9);
    for name in ["alice/by-admin", "logo.png"] {
        let url = upload(&admin.client, name, "", &content).await?;
        assert_eq!(download(&alice, &url).await?.bytes().await?, content);
    }
    let request = initiate(&bytes(PART + 1, 1), "alice/x", "", 0);
    let begun = alice.call("/object/initiate_multipart_upload", request).await?;
    let sign = json!({ "uploadID": begun["upload"]["uploadID"], "partNumbers": [1] });
    admin.client.call("/object/auth_sign", sign).await?;
    node.stop().await
}

#[tokio::test]
async fn every_route_wants_a_token() -> Result {
    let node = Node::start().await?;
    for route in [
        "part_limit",
        "part_size",
        "initiate_multipart_upload",
        "auth_sign",
        "complete_multipart_upload",
        "access_url",
        "initiate_form_data",
        "complete_form_data",
    ] {
        let path = format!("/object/{route}");
        let answer = node.rest().post(&path, "", "op", "{}".into()).await?;
        assert_eq!((answer.code, &answer.body["errDlt"]), (1001, &json!("header must have token")));
        let answer = node.rest().post(&path, "no token", "op", "{}".into()).await?;
        assert_eq!(answer.code, 1503, "{}", answer.text);
    }
    node.stop().await
}

#[tokio::test]
async fn an_upload_given_up_leaves_nothing() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let objects = node.folder().join("objects");
    let kept = upload(&alice, "alice/kept", "", b"kept").await?;
    let content = bytes(PART + 10, 3);
    let request = initiate(&content, "alice/f", "", -1);
    let begun = alice.call("/object/initiate_multipart_upload", &request).await?;
    let sign = &begun["upload"]["sign"];
    assert_eq!(put(&alice, part_url(sign, 0)?, content[..PART].to_vec()).await?, 200);
    std::fs::create_dir_all(objects.join("content/zz"))?;
    std::fs::write(objects.join("content/zz/orphan_zz"), "left by a crash")?;
    std::fs::create_dir_all(objects.join("uploads/unknown"))?;
    std::fs::write(objects.join("uploads/unknown/1"), "left by a crash")?;
    node.services.remove_object_garbage().await?;
    assert_eq!(files(&objects).len(), 2);
    node.clock.advance(7 * 86_400_000 + 1);
    let done = complete(&content, &begun["upload"], "alice/f", "");
    assert_eq!(alice.refused("/object/complete_multipart_upload", &done).await?, 1701);
    node.clock.advance(3_600_000);
    node.services.remove_object_garbage().await?;
    assert_eq!(files(&objects).len(), 1);
    assert_eq!(alice.refused("/object/complete_multipart_upload", &done).await?, 500);
    assert_eq!(download(&alice, &kept).await?.bytes().await?, "kept");
    node.stop().await
}

#[tokio::test]
async fn uploads_under_way_are_limited() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let begin = |client: &testnet::Client, n: u32| {
        let (client, name) = (client.clone(), format!("{}/{n}", client.user_id));
        async move {
            let request = initiate(&n.to_be_bytes(), &name, "", 0);
            client.post("/object/initiate_multipart_upload", request).await
        }
    };
    for n in 0..1_000 {
        assert_eq!(begin(&alice, n).await?.code, 0);
    }
    assert_eq!(begin(&alice, 1_000).await?.code, 500);
    assert_eq!(begin(&bob, 1_000).await?.code, 0);
    node.clock.advance(8 * 86_400_000);
    node.services.remove_object_garbage().await?;
    assert_eq!(begin(&alice, 1_000).await?.code, 0);
    node.stop().await
}

#[tokio::test]
async fn the_hash_is_not_that_of_the_file() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    assert_eq!(hash(b"hello"), "69a329523ce1ec88bf63061863d9cb14");
    let mut request = initiate(b"hello", "alice/a", "", 1);
    request["hash"] = json!(md5(b"hello"));
    let begun = alice.call("/object/initiate_multipart_upload", request).await?;
    put(&alice, part_url(&begun["upload"]["sign"], 0)?, b"hello".to_vec()).await?;
    let done = complete(b"hello", &begun["upload"], "alice/a", "");
    assert_eq!(done["parts"], json!(part_md5s(b"hello")));
    assert_eq!(alice.refused("/object/complete_multipart_upload", done).await?, 500);
    node.stop().await
}

#[tokio::test]
async fn browsers_may_put_and_get() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let begun =
        alice.call("/object/initiate_multipart_upload", initiate(b"x", "alice/a", "", 1)).await?;
    let url = part_url(&begun["upload"]["sign"], 0)?;
    let preflight = alice
        .rest
        .http()
        .request(reqwest::Method::OPTIONS, url.clone())
        .header("Origin", "http://app.example")
        .header("Access-Control-Request-Method", "PUT")
        .header("Access-Control-Request-Headers", "content-type")
        .send()
        .await?;
    let put = alice.rest.http().put(url).body("x").header("Content-Type", "a/b").send().await?;
    assert_eq!(put.headers()["etag"], format!("\"{}\"", md5(b"x")));
    for response in [preflight, put] {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        assert_eq!(response.headers()["access-control-allow-methods"], "*");
        assert_eq!(response.headers()["access-control-allow-headers"], "*");
    }
    node.stop().await
}

#[tokio::test]
async fn a_name_that_is_guessed_leads_nowhere() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let url = upload(&alice, "alice/a.pdf", "application/pdf", b"secret").await?;
    let api = alice.rest.api();
    let guesses = ["alice/a.pdf", "~/alice/a.pdf", "~0/alice/a.pdf", "@/alice/a.pdf", "~a.pdf"];
    for guess in guesses {
        let status = download(&bob, &format!("{api}/object/{guess}")).await?.status();
        assert_eq!(status, 404, "{guess}");
    }
    let (_, linked) = url.split_once("/object/").expect("a link");
    let asked = |name: &str| json!({ "name": name });
    let ask = "/object/access_url";
    assert_eq!(bob.refused(ask, asked("alice/a.pdf")).await?, 1004);
    for (client, name) in [(&bob, linked), (&alice, "alice/a.pdf"), (&alice, linked)] {
        let answer = client.call(ask, asked(name)).await?;
        let url = answer["url"].as_str().expect("a link");
        assert_eq!(download(client, url).await?.bytes().await?, "secret");
    }
    node.admin().await?.client.call(ask, asked("alice/a.pdf")).await?;
    assert_eq!(download(&bob, &url).await?.bytes().await?, "secret");
    // What had a link before there were marks.
    let name = "alice/a.pdf";
    let unmarked = node.services.store().transact(move |tx| {
        let object = schema::OBJECTS.get(tx, name)?.unwrap_or_default();
        schema::OBJECTS.put(tx, name, &Object { mark: String::new(), ..object });
        Ok::<_, StoreError>(())
    });
    unmarked.await?;
    let old = format!("{api}/object/{name}");
    assert_eq!(download(&bob, &old).await?.bytes().await?, "secret");
    assert_eq!(upload(&alice, name, "", b"secret").await?, old, "what it led to before");
    // Other content is not found by the name.
    let newer = upload(&alice, name, "", b"newer").await?;
    assert!(newer.starts_with(&format!("{api}/object/~")), "{newer}");
    assert_eq!(download(&bob, &newer).await?.bytes().await?, "newer");
    assert_eq!(download(&bob, &old).await?.status(), 404);
    assert_eq!(upload(&alice, name, "", b"newest").await?, newer);
    assert_eq!(download(&bob, &newer).await?.bytes().await?, "newest");
    node.stop().await
}

#[tokio::test]
async fn on_a_node_that_federates_only_the_hash_leads_to_the_content() -> Result {
    let node = Node::builder().domain("alpha.example".parse()?).start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let url = upload(&alice, "alice/a.pdf", "application/pdf", b"secret").await?;
    assert_eq!(download(&bob, &url).await?.bytes().await?, "secret");
    let api = alice.rest.api();
    let zeros = "0".repeat(64);
    for guess in ["alice/a.pdf".to_owned(), format!("@alpha.example/{zeros}/alice/a.pdf")] {
        let status = download(&bob, &format!("{api}/object/{guess}")).await?.status();
        assert_eq!(status, 404, "{guess}");
    }
    node.stop().await
}
