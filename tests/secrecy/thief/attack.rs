//! The thief writes, each time to a copy of its own, and the service goes on with that.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use cardless::exchange::{Call, Client, ClientParts, ExchangeError, SecretKey, Usage};
use cardless::gateway::{AuditAnchor, Gateway, RequestKey, Role};
use cardless::message::{Amount, Capture, Event, Initiator, Page, PayRequest, PaymentStatus};
use cardless_contract::SystemEntropy;
use cardless_sandbox::Provider;
use rusqlite::Connection;
use tower::ServiceExt as _;

use super::Printout;
use super::file::File;
use super::world::{FIRST, OTHER, PUBLIC_URL, World, door};
use crate::wire::Door;

/// A copy with these edits, and a gateway that goes on with it.
fn edited(world: &World, name: &str, edits: &str) -> (PathBuf, Gateway) {
    let path = world.copy(name);
    let file = Connection::open(&path).unwrap();
    file.execute_batch(
        "PRAGMA foreign_keys = OFF; DROP TRIGGER audit_lines_stay; DROP TRIGGER audit_lines_stand;",
    )
    .unwrap();
    file.execute_batch(edits).unwrap();
    drop(file);
    let gateway = world.on_copy(&path);
    (path, gateway)
}

/// A charge of an account, with the method that it has at a provider.
async fn charge(gateway: &Gateway, account: &str, provider: Provider) -> Result<(), String> {
    let methods = gateway.payment_methods(account).await;
    let methods = methods.map_err(|error| error.to_string())?.data;
    let method = methods
        .into_iter()
        .find(|method| method.provider.as_str() == provider.name())
        .ok_or("no method")?;
    let request = PayRequest {
        account: account.to_owned(),
        payment_method: Some(method.id),
        amount: Amount::new("CHF", 100),
        reference: "stolen".to_owned(),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: None,
    };
    let key = RequestKey::new("shop", format!("stolen-{}", provider.name())).unwrap();
    let paid = gateway.pay(&key, &request).await;
    let paid = paid.map_err(|error| error.to_string())?.body;
    if paid.status == PaymentStatus::Captured {
        return Ok(());
    }
    Err(format!("{:?} {:?}", paid.status, paid.failure))
}

/// What is sealed, in another place than its own.
pub(crate) async fn swaps(world: &World, out: &mut Printout) {
    let [first, other] = [FIRST, OTHER].map(|account| world.pseudonym(account));
    let swap = |table: &str, column: &str, one: &str, two: &str| {
        format!(
            "CREATE TABLE two AS SELECT rowid AS place, {column} AS held FROM {table}
                 WHERE rowid IN ((SELECT min(rowid) FROM {table} WHERE {one}),
                                 (SELECT min(rowid) FROM {table} WHERE {two}));
             UPDATE {table} SET {column} = (SELECT held FROM two WHERE place <> {table}.rowid)
                 WHERE rowid IN (SELECT place FROM two);
             DROP TABLE two;"
        )
    };
    let at = |account: &str, provider: &str| {
        format!("account = '{account}' AND provider = '{provider}'")
    };
    let mut refused = 0;
    let attempts = [
        swap(
            "records",
            "sealed",
            &at(&first, "aduno"),
            &at(&other, "aduno"),
        ),
        swap(
            "records",
            "sealed",
            &at(&first, "aduno"),
            &at(&first, "paypal"),
        ),
        swap(
            "payment_methods",
            "record",
            &at(&first, "aduno"),
            &at(&other, "aduno"),
        ),
        swap(
            "payment_methods",
            "record",
            &at(&first, "aduno"),
            &at(&first, "paypal"),
        ),
        // The other's method becomes one of the first account's, with its record.
        format!(
            "UPDATE payment_methods SET account = 'nobody', is_default = 0 WHERE {0};
             UPDATE payment_methods SET account = '{first}', is_default = 0 WHERE {1};
             UPDATE records SET account = '{first}' WHERE {1}",
            at(&first, "aduno"),
            at(&other, "aduno")
        ),
        format!(
            "UPDATE records SET merchant = 'another' WHERE {}",
            at(&first, "aduno")
        ),
        format!(
            "UPDATE records SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) AS BLOB) WHERE {}",
            at(&first, "aduno")
        ),
        format!(
            "UPDATE records SET sealed = (SELECT sealed_id FROM accounts WHERE account = '{first}') WHERE {}",
            at(&first, "aduno")
        ),
    ];
    for (number, edits) in attempts.iter().enumerate() {
        let (_, gateway) = edited(world, &format!("swap {number}"), edits);
        let asked = world.sandbox.requests(None).len();
        let charged = charge(&gateway, FIRST, Provider::Aduno).await;
        assert!(charged.is_err(), "{edits}");
        assert_eq!(world.sandbox.requests(None).len(), asked, "{edits}");
        refused += 1;
    }
    // The control: with nothing edited it is charged.
    let (_, gateway) = edited(world, "not edited", "");
    charge(&gateway, FIRST, Provider::Aduno).await.unwrap();
    out.say(
        "another account's, another provider's or a changed token in a row",
        &format!(
            "{refused} of {} ways refused, and no provider is asked",
            attempts.len()
        ),
    );
    let edits = swap(
        "accounts",
        "sealed_id",
        &format!("account = '{first}'"),
        &format!("account = '{other}'"),
    );
    let (_, gateway) = edited(world, "swapped ids", &edits);
    assert!(gateway.events(None, 10).await.is_err());
    let edits = swap(
        "setups",
        "redirect",
        "redirect IS NOT NULL AND provider = 'aduno'",
        "redirect IS NOT NULL AND provider = 'paypal'",
    );
    let (path, gateway) = edited(world, "swapped pages", &edits);
    let open = File::open(&path).texts("SELECT id FROM setups WHERE redirect IS NOT NULL");
    let mut refused = 0;
    for setup in &open {
        refused += usize::from(gateway.setup(setup).await.is_err());
    }
    assert_eq!(refused, 2);
    out.say(
        "two accounts' ids or two setups' pages, swapped",
        "refused when they are read",
    );
}

/// An API key of the thief's own.
pub(crate) async fn keys(world: &World, out: &mut Printout) {
    let own = format!("ck_{}", "a".repeat(43));
    let hash: String = ring::digest::digest(&ring::digest::SHA256, own.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let edits = format!("UPDATE clients SET key_hash = x'{hash}' WHERE name = 'shop'");
    let (_, gateway) = edited(world, "own key", &edits);
    assert!(gateway.authenticate(&own).await.unwrap().is_none());
    let handles = File::open(&world.copy("handles")).texts("SELECT handle FROM payment_methods");
    let mut refused = 0;
    for handle in &handles {
        let request =
            http::Request::delete(format!("/v1/payment-methods/{handle}?account={FIRST}"))
                .header("authorization", format!("Bearer {own}"))
                .body(Body::empty());
        let answer = door(&gateway).oneshot(request.unwrap()).await.unwrap();
        refused += usize::from(answer.status() == 401);
    }
    assert_eq!(refused, handles.len());
    out.say(
        "an API key of its own whose hash it writes into the file",
        &format!(
            "refused, since it can't make the hash, and {refused} of {refused} handles with it"
        ),
    );
}

/// The audit log, edited.
pub(crate) async fn audit(world: &World, out: &mut Printout) {
    let attempts = [
        "UPDATE audit_lines SET actor = 'nobody' WHERE seq = 2",
        "UPDATE audit_lines SET outcome = 'refused' WHERE seq = 1",
        "DELETE FROM audit_lines WHERE seq = 3",
        "DELETE FROM audit_lines WHERE seq = (SELECT max(seq) FROM audit_lines)",
        "DELETE FROM audit_lines WHERE seq = (SELECT max(seq) FROM audit_lines); UPDATE audit_head SET count = count - 1",
        "UPDATE audit_lines SET seq = 1000 WHERE seq = 1; UPDATE audit_lines SET seq = 1 WHERE seq = 2; UPDATE audit_lines SET seq = 2 WHERE seq = 1000",
        "UPDATE audit_lines SET mac = (SELECT mac FROM audit_lines WHERE seq = 2) WHERE seq = 3",
        "UPDATE audit_lines SET mac = zeroblob(32) WHERE seq = 2",
        "INSERT INTO audit_lines SELECT max(seq) + 1, 1, at, actor, role, origin, action, object, outcome, details, mac FROM audit_lines",
        "DELETE FROM audit_head",
    ];
    let mut found = 0;
    for (number, edits) in attempts.iter().enumerate() {
        let (_, gateway) = edited(world, &format!("audit {number}"), edits);
        let report = gateway.verify_audit(None, |_| {}).await.unwrap();
        assert!(!report.faults.is_empty(), "{edits}");
        found += 1;
    }
    let (_, gateway) = edited(world, "audit", "");
    let report = gateway.verify_audit(None, |_| {}).await.unwrap();
    assert!(report.faults.is_empty());
    out.say(
        "the audit log with a line changed, dropped, moved, put in, or its end cut off",
        &format!("{found} of {} edits, by `audit verify`", attempts.len()),
    );
}

/// A row that is not signed.
pub(crate) async fn amounts(world: &World, out: &mut Printout) {
    let edits = "UPDATE payments SET captured = captured - 1 WHERE rowid = (SELECT min(rowid) FROM payments WHERE captured > 0)";
    let (path, gateway) = edited(world, "amounts", edits);
    let report = gateway.verify().await.unwrap();
    assert_eq!(report.differences.len(), 1, "{report:?}");
    let id = &report.differences[0].payment;
    assert!(
        File::open(&path)
            .texts("SELECT id FROM payments")
            .contains(id)
    );
    out.say(
        "an amount changed by a cent in a payment's row",
        "by `reconcile --verify`, which asks the provider; the service itself believes the row",
    );
}

/// A public key of the thief's own, for a sealed client.
pub(crate) async fn public_keys(world: &World, out: &mut Printout) {
    let own = SecretKey::generate(Usage::Both, &SystemEntropy).unwrap();
    let public = own.public();
    let point: String = public
        .to_point()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let insert = format!(
        "INSERT INTO client_keys (client, kid, thumbprint, usage, point, created_at, mac)
             SELECT client, '{}', '{}', usage, x'{point}', created_at, mac FROM client_keys;",
        public.kid(),
        public.thumbprint()
    );
    let replace = format!(
        "UPDATE client_keys SET point = x'{point}', kid = '{}'",
        public.kid()
    );
    let mut refused = 0;
    for (number, edits) in [insert, replace].iter().enumerate() {
        let (_, gateway) = edited(world, &format!("own public key {number}"), edits);
        let client = speak(
            world,
            &gateway,
            SecretKey::read(&own.to_private_jwk()).unwrap(),
        );
        refused += usize::from(read_events(&client).await.is_err());
    }
    assert_eq!(refused, 2);
    // The control: the client's own key is taken, but not in another role than it was registered in.
    let (_, gateway) = edited(world, "not edited, sealed", "");
    let own = || SecretKey::read(&world.partner_key).unwrap();
    read_events(&speak(world, &gateway, own())).await.unwrap();
    let edits = "UPDATE clients SET role = 'operator' WHERE name = 'partner'";
    let (_, gateway) = edited(world, "another role", edits);
    assert!(read_events(&speak(world, &gateway, own())).await.is_err());
    out.say(
        "a public key of its own for a sealed client, or another role for it",
        "refused, since it can't make the key's MAC",
    );
}

fn speak(world: &World, gateway: &Gateway, key: SecretKey) -> Client {
    Client::new(ClientParts {
        name: "partner".to_owned(),
        base_url: PUBLIC_URL.to_owned(),
        service: PUBLIC_URL.to_owned(),
        keys: vec![key],
        http: Arc::new(Door(door(gateway))),
        clock: Arc::new(world.sandbox.clock()),
        entropy: Arc::new(SystemEntropy),
    })
    .unwrap()
}

async fn read_events(client: &Client) -> Result<(), ExchangeError> {
    let call = Call {
        op: "GET /v1/events",
        account: None,
        idempotency_key: None,
    };
    client.call::<(), Page<Event>>(&call, None).await.map(drop)
}

/// A role that is not signed, of a client whose API key somebody has.
pub(crate) async fn roles(world: &World, out: &mut Printout) {
    let edits = "UPDATE clients SET role = 'billing', revoked_at = NULL";
    let (_, gateway) = edited(world, "roles", edits);
    let mut billing = 0;
    for key in &world.api_keys {
        let found = gateway.authenticate(key).await.unwrap();
        billing += usize::from(found.is_some_and(|(_, role)| role == Role::Billing));
    }
    assert_eq!(billing, world.api_keys.len());
    out.say(
        "with any API key, a revoked one too",
        "give it the role `billing`; `client list` shows that, and the audit log has no line for it",
    );
}

/// The whole file, put back to what it was.
pub(crate) async fn rollback(world: &World, out: &mut Printout) {
    let report = world.gateway.verify_audit(None, |_| {}).await.unwrap();
    let noted: AuditAnchor = report.head.unwrap().parse().unwrap();
    let old = world.on_copy(&world.folder.path().join("before the erasure/cardless.db"));
    let alone = old.verify_audit(None, |_| {}).await.unwrap();
    assert!(alone.faults.is_empty(), "{alone:?}");
    let against = old.verify_audit(Some(noted), |_| {}).await.unwrap();
    assert!(!against.faults.is_empty());
    out.say(
        "put the whole file back to an earlier state, or a row to what it was",
        "unseen by `audit verify` alone; seen by `audit verify --expect` with a head that was noted",
    );
}
