//! Files that somebody has changed, put together or made up.

use super::*;

/// What every hostile file gets, and that it leaves nothing.
async fn refused(world: &World, name: &str, lines: &[Vec<u8>], senders: &[PublicKey]) -> String {
    let before = world.events().await;
    let mut check = world.gateway.import_tokens(senders).await.unwrap();
    let mut error = None;
    for line in lines {
        if let Err(refused) = check.line(line).await {
            error = Some(refused);
            break;
        }
    }
    let error = match error {
        Some(error) => Some(error),
        None => check.compare(false, |_| {}).await.err(),
    };
    let error = error.ok_or(name).unwrap();
    assert_eq!(error.code(), Code::ExchangeRefused, "{name}: {error}");
    assert_eq!(world.events().await, before, "{name}");
    assert!(held(world).await.is_empty(), "{name}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn no_hostile_file_stores_anything() {
    let world = world();
    let sender = Sender::to(&world).await;
    let mut other = Sender::to(&world).await;
    other.key = sender.key.clone();
    other.export = "another-file".to_owned();
    let records: Vec<Record> = (0..4)
        .map(|number| record(&format!("a-{number}"), &format!("t-{number}")))
        .collect();
    // Header, four lines of one record, end.
    let good = sender.file(&records, 1);
    let fewer = sender.file(&records[..3], 1);
    let spliced = other.file(&records, 1);
    let replaced = |at: usize, line: &str| {
        let mut lines = good.clone();
        lines[at] = line.to_owned();
        lines
    };
    let moved = |from: usize, to: usize| {
        let mut lines = good.clone();
        lines.swap(from, to);
        lines
    };
    let without = |at: usize| {
        let mut lines = good.clone();
        lines.remove(at);
        lines
    };
    let doubled = |at: usize| {
        let mut lines = good.clone();
        lines.insert(at, good[at].clone());
        lines
    };
    let forged = |at: usize, part: &str, says: Value| {
        replaced(at, &sender.forge(&sender.claims(at, part, &says)))
    };
    let one = json!({"account": "a", "provider": "fake", "merchant": "shop", "kind": "plain", "token": "t"});
    let with = |name: &str, value: Value| {
        let mut record = one.clone();
        record[name] = value;
        json!([record])
    };
    let missing = |name: &str| {
        let mut record = one.clone();
        record.as_object_mut().unwrap().remove(name);
        json!([record])
    };
    let to = &sender.to;
    // Signed for somebody else, who opens it and seals it to us.
    let third = pair(Usage::Seal);
    let mut for_third = Sender::to(&world).await;
    for_third.key = sender.key.clone();
    for_third.to = third.public().clone();
    let resealed: Vec<String> = for_third
        .file(&records, 1)
        .iter()
        .map(|line| {
            let signed = jwe::Unopened::parse(line.trim_end())
                .unwrap()
                .open(&third)
                .unwrap();
            jwe::seal(&signed, TYP, Some("JWT"), to, &SystemEntropy).unwrap() + "\n"
        })
        .collect();
    let stranger = {
        let mut stranger = Sender::to(&world).await;
        stranger.key = pair(Usage::Sign);
        stranger
    };
    // The sender's name, and another's key.
    let impostor = {
        let text = pair(Usage::Sign).to_private_jwk();
        let mut jwk: Value = serde_json::from_str(&text).unwrap();
        jwk["kid"] = sender.key.public().kid().into();
        let mut impostor = Sender::to(&world).await;
        impostor.key = SecretKey::read(&jwk.to_string()).unwrap();
        impostor
    };
    let message = seal(
        sender.claims(0, "header", &json!({})).as_bytes(),
        &sender.key,
        to,
        &SystemEntropy,
    )
    .unwrap()
        + "\n";
    let inner_only = jws::sign(b"{}", TYP, &sender.key).unwrap() + "\n";
    let outer_only = {
        let signed = jws::sign(
            sender.claims(0, "header", &json!({})).as_bytes(),
            "JWT",
            &sender.key,
        )
        .unwrap();
        jwe::seal(signed.as_bytes(), TYP, Some("JWT"), to, &SystemEntropy).unwrap() + "\n"
    };
    let no_cty = {
        let signed = jws::sign(b"{}", TYP, &sender.key).unwrap();
        jwe::seal(signed.as_bytes(), TYP, None, to, &SystemEntropy).unwrap() + "\n"
    };
    let header = |version: i64| json!({"version": version, "from": "x", "iat": sender.at});
    let end = |records: i64, sha256: &str| json!({"records": records, "sha256": sha256});
    let sum = {
        let text = good[..5].concat();
        let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash)
    };
    let twice = |claims: &str| claims.replacen("\"seq\"", "\"seq\":1,\"seq\"", 1);
    let many: Vec<Value> = (0..=MAX_RECORDS_PER_LINE)
        .map(|number| with("token", format!("t-{number}").into())[0].clone())
        .collect();

    let cases: Vec<(&str, Vec<String>, Fault)> = vec![
        ("empty", Vec::new(), Fault::NoEnd),
        ("header_only", good[..1].to_vec(), Fault::NoEnd),
        ("no_end", good[..5].to_vec(), Fault::NoEnd),
        ("no_header", without(0), Fault::OutOfOrder),
        ("line_missing", without(2), Fault::OutOfOrder),
        ("last_record_missing", without(4), Fault::OutOfOrder),
        ("line_doubled", doubled(2), Fault::OutOfOrder),
        ("header_doubled", doubled(0), Fault::OutOfOrder),
        ("lines_moved", moved(1, 2), Fault::OutOfOrder),
        ("end_doubled", [good.clone(), good[5..].to_vec()].concat(), Fault::BehindTheEnd),
        ("two_files", [good.clone(), spliced.clone()].concat(), Fault::BehindTheEnd),
        ("something_behind", [good.clone(), vec!["\n".to_owned()]].concat(), Fault::BehindTheEnd),
        ("spliced_records", replaced(2, &spliced[2]), Fault::OtherFile),
        ("spliced_end", replaced(5, &spliced[5]), Fault::OtherFile),
        ("same_name_other_records", [good[..4].to_vec(), fewer[4..].to_vec()].concat(), Fault::Digest),
        ("record_of_a_namesake", replaced(2, &sender.file(&records, 1)[2]), Fault::Digest),
        ("blank_line", replaced(2, "\n"), Fault::NotOfTheFormat),
        ("carriage_return", replaced(2, &good[2].replace('\n', "\r\n")), Fault::NotOfTheFormat),
        ("leading_space", replaced(2, &format!(" {}", good[2])), Fault::NotOfTheFormat),
        ("plain_json", replaced(1, "{\"account\":\"a\"}\n"), Fault::NotOfTheFormat),
        ("no_line_feed", replaced(5, good[5].trim_end()), Fault::CutOff),
        ("too_long", replaced(1, &"x".repeat(MAX_LINE_BYTES + 1)), Fault::TooLong),
        ("exchange_message", replaced(0, &message), Fault::NotOfTheFormat),
        ("signed_only", replaced(0, &inner_only), Fault::NotOfTheFormat),
        ("inner_of_another_type", replaced(0, &outer_only), Fault::NotOfTheFormat),
        ("no_content_type", replaced(0, &no_cty), Fault::NotOfTheFormat),
        ("other_recipient", for_third.file(&records, 1), Fault::OtherRecipient),
        ("signed_for_another", resealed, Fault::Audience),
        ("other_sender", stranger.file(&records, 1), Fault::OtherSender),
        ("sender_in_name_only", impostor.file(&records, 1), Fault::Signature),
        ("other_version", forged(0, "header", header(2)), Fault::Version),
        ("header_unknown_member", forged(0, "header", json!({"version": 1, "from": "x", "iat": 1, "x": 1})), Fault::Claims),
        ("header_no_time", forged(0, "header", json!({"version": 1, "from": "x"})), Fault::Claims),
        ("header_text_time", forged(0, "header", json!({"version": 1, "from": "x", "iat": "1"})), Fault::Claims),
        ("no_part", replaced(1, &sender.forge(&json!({"aud": to.thumbprint(), "export": sender.export, "seq": 1}).to_string())), Fault::Claims),
        ("two_parts", replaced(1, &sender.forge(&json!({"aud": to.thumbprint(), "export": sender.export, "seq": 1, "records": [one], "end": end(0, "")}).to_string())), Fault::Claims),
        ("unknown_claim", forged(1, "more", json!(1)), Fault::Claims),
        ("no_audience", replaced(1, &sender.forge(&json!({"export": sender.export, "seq": 1, "records": [one]}).to_string())), Fault::Claims),
        ("no_name", replaced(1, &sender.forge(&json!({"aud": to.thumbprint(), "seq": 1, "records": [one]}).to_string())), Fault::Claims),
        ("bad_name", replaced(0, &sender.forge(&json!({"aud": to.thumbprint(), "export": "../x", "seq": 0, "header": header(1)}).to_string())), Fault::Claims),
        ("seq_ahead", replaced(1, &sender.forge(&sender.claims(2, "records", &json!([one])))), Fault::OutOfOrder),
        ("seq_negative", replaced(1, &sender.forge(&json!({"aud": to.thumbprint(), "export": sender.export, "seq": -1, "records": [one]}).to_string())), Fault::OutOfOrder),
        ("doubled_claim", replaced(1, &sender.forge(&twice(&sender.claims(1, "records", &json!([one]))))), Fault::Claims),
        ("doubled_member", replaced(1, &sender.forge(&sender.claims(1, "records", &json!([one])).replacen("\"token\"", "\"token\":\"x\",\"token\"", 1))), Fault::Claims),
        ("records_no_list", forged(1, "records", one.clone()), Fault::Claims),
        ("record_no_object", forged(1, "records", json!(["t-1"])), Fault::Claims),
        ("no_records", forged(1, "records", json!([])), Fault::TooManyRecords),
        ("too_many_records", forged(1, "records", json!(many)), Fault::TooManyRecords),
        ("expiry", forged(1, "records", with("expiry", json!("12/29"))), Fault::Claims),
        ("unknown_member", forged(1, "records", with("pan", json!(CARD))), Fault::Claims),
        ("member_named_by_a_number", forged(1, "records", with(CARD, json!(1))), Fault::Claims),
        ("token_a_number", forged(1, "records", with("token", json!(1))), Fault::Claims),
        ("token_null", forged(1, "records", with("token", Value::Null)), Fault::Claims),
        ("default_a_word", forged(1, "records", with("default", json!("yes"))), Fault::Claims),
        ("no_token", forged(1, "records", missing("token")), Fault::Claims),
        ("no_account", forged(1, "records", missing("account")), Fault::Claims),
        ("no_merchant", forged(1, "records", missing("merchant")), Fault::Claims),
        ("no_kind", forged(1, "records", missing("kind")), Fault::Claims),
        ("fraction", replaced(1, &sender.forge(&sender.claims(1, "records", &with("default", json!(1.5))))), Fault::Claims),
        ("end_counts_fewer", forged(5, "end", end(3, &sum)), Fault::Count),
        ("end_counts_below_zero", forged(5, "end", end(-4, &sum)), Fault::Count),
        ("end_of_other_lines", forged(5, "end", end(4, "AAAA")), Fault::Digest),
        ("end_unknown_member", forged(5, "end", json!({"records": 4, "sha256": sum, "x": 1})), Fault::Claims),
        ("end_first", forged(0, "end", end(0, &sum)), Fault::OutOfOrder),
        ("records_first", forged(0, "records", json!([one])), Fault::OutOfOrder),
        ("header_again", forged(2, "header", header(1)), Fault::OutOfOrder),
    ];
    let number = cases.len();
    for (name, lines, fault) in cases {
        let lines: Vec<Vec<u8>> = lines.into_iter().map(String::into_bytes).collect();
        let told = refused(&world, name, &lines, &sender.keys()).await;
        assert!(told.contains(&fault.to_string()), "{name}: {told}");
        assert!(!told.contains(CARD), "{name}");
    }
    println!("{number} hostile files");
    let not_text = vec![b"\xff\xfe\n".to_vec()];
    let told = refused(&world, "not_utf8", &not_text, &sender.keys()).await;
    assert!(told.contains(&Fault::NotOfTheFormat.to_string()), "{told}");
    // And the right one is taken.
    let (report, _) = import(&world.gateway, &good, &sender.keys()).await;
    assert_eq!(report.imported, 4);
}

#[tokio::test(start_paused = true)]
async fn no_flipped_bit_and_no_cut_is_taken() {
    let world = world();
    let sender = Sender::to(&world).await;
    let whole = sender
        .file(&[record("a-1", "t-1")], 1)
        .concat()
        .into_bytes();
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
        bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    };
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        refused(
            &world,
            &format!("bit of byte {at}"),
            &lines(&flipped),
            &sender.keys(),
        )
        .await;
        refused(
            &world,
            &format!("cut at {at}"),
            &lines(&whole[..at]),
            &sender.keys(),
        )
        .await;
    }
    let cut = &whole[..whole.len() - 1];
    refused(&world, "the last byte", &lines(cut), &sender.keys()).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_between_the_readings_ends_the_import() {
    let world = world();
    let sender = Sender::to(&world).await;
    let first = sender.file(&[record("a-1", "t-1")], 1);
    let second = sender.file(&[record("a-1", "t-2")], 1);
    let mut check = world.gateway.import_tokens(&sender.keys()).await.unwrap();
    for line in &first {
        check.line(line.as_bytes()).await.unwrap();
    }
    let mut import = check.compare(false, |_| {}).await.unwrap();
    import.line(second[0].as_bytes()).await.unwrap();
    let error = import.line(second[1].as_bytes()).await.unwrap_err();
    assert!(error.to_string().contains("changed"), "{error}");
    assert!(import.finish().await.is_err());
    assert!(held(&world).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_line_is_no_message_of_the_exchange() {
    let world = world();
    let sender = Sender::to(&world).await;
    for line in sender.file(&[record("a-1", "t-1")], 1) {
        let refused = world
            .gateway
            .open_exchange(line.trim_end().as_bytes())
            .await;
        assert_eq!(refused.unwrap_err().code(), Code::ExchangeRefused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_can_be_opened_long_after_its_key_was_replaced_and_not_for_ever() {
    let world = world();
    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", "t-1")], 1);
    for generation in 1..=FILE_GENERATIONS {
        let read = import_as(&world.gateway, &lines, &sender.keys(), true).await;
        assert!(read.is_ok(), "{generation}");
        world.clock.forward(ROTATE_AFTER + Duration::from_secs(1));
        published(&world.gateway).await;
    }
    let read = import_as(&world.gateway, &lines, &sender.keys(), true).await;
    assert!(
        read.unwrap_err()
            .to_string()
            .contains(&Fault::OtherRecipient.to_string())
    );
}

#[tokio::test(start_paused = true)]
async fn a_header_that_lies_about_time_or_name_is_refused() {
    let world = world();
    let mut sender = Sender::to(&world).await;
    sender.at += 3600;
    let lines = sender.file(&[record("a-1", "t-1")], 1);
    let read = import_as(&world.gateway, &lines, &sender.keys(), false).await;
    assert_eq!(read.unwrap_err().field_path(), Some("iat"));
    for at in [i64::MAX, i64::MAX / 1000] {
        sender.at = at;
        let lines = sender.file(&[record("a-1", "t-1")], 1);
        let read = import_as(&world.gateway, &lines, &sender.keys(), false).await;
        assert_eq!(read.unwrap_err().field_path(), Some("iat"), "{at}");
    }
    let sender = Sender::to(&world).await;
    for (from, code) in [
        (CARD, Code::CardNumber),
        ("", Code::InvalidField),
        ("a\u{1b}[2J", Code::InvalidField),
    ] {
        let says = json!({"version": 1, "from": from, "iat": sender.at});
        let line = sender.forge(&sender.claims(0, "header", &says));
        let mut check = world.gateway.import_tokens(&sender.keys()).await.unwrap();
        let error = check.line(line.as_bytes()).await.unwrap_err();
        assert_eq!((error.code(), error.field_path()), (code, Some("from")));
    }
    let only_seals = pair(Usage::Seal);
    let error = world
        .gateway
        .import_tokens(&[only_seals.public().clone()])
        .await;
    assert_eq!(error.unwrap_err().field_path(), Some("sender"));
}
