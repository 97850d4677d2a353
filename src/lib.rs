//! Charges accounts at PostFinance, PayPal and Aduno behind one trait, and never holds a card.
//!
//! Of an account it knows which provider, an opaque handle of ours (`pm_…`), and the provider's own
//! token, sealed. The customer types a card at the provider only.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use cardless::config::{Environment, Settings};
//! use cardless::gateway::{Gateway, RequestKey};
//! use cardless::message::{Amount, Capture, Initiator, PayRequest, PaymentStatus};
//! use cardless::registry;
//! use cardless::store::{SqliteStore, Threads};
//! use cardless::vault::KeyRing;
//! use cardless_contract::{Clock, SystemClock};
//!
//! # async fn charge() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::load(None, &Environment::of_process())?;
//! let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
//! let mut builder = Gateway::builder()
//!     .public_url(&settings.service.public_url)
//!     .store(Arc::new(SqliteStore::open(&settings.store.url, Threads::Own)?))
//!     .keys(KeyRing::from_custody(registry::custody(&settings)?)?);
//! for provider in registry::providers(&settings, &clock)? {
//!     builder = builder.provider(provider);
//! }
//! let gateway = builder.build()?;
//!
//! // Without this, an outcome that nobody knows stays unknown.
//! let resolver = gateway.clone();
//! tokio::spawn(async move { resolver.run(std::future::pending()).await });
//!
//! let payment = gateway
//!     .pay(
//!         &RequestKey::new("billing", "invoice-17-first-try")?,
//!         &PayRequest {
//!             account: "customer-17".to_owned(),
//!             payment_method: None,
//!             amount: Amount::new("CHF", 4990),
//!             reference: "invoice-17".to_owned(),
//!             capture: Capture::Automatic,
//!             initiator: Initiator::Merchant,
//!             return_url: None,
//!             description: None,
//!         },
//!     )
//!     .await?
//!     .body;
//! match payment.status {
//!     PaymentStatus::Captured => println!("taken: {}", payment.captured),
//!     status if status.is_open() => println!("not known yet; ask for {}", payment.id),
//!     status => println!("not taken: {status:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/` has whole programs: `quickstart`, `link_and_charge`, `own_provider`, `webhook`,
//! `events`, `rotate`, `exchange`.
//!
//! # The way of a charge
//!
//! ```text
//! request → gateway → vault → provider → provider's HTTP → outcome → journal → event
//! ```
//!
//! The intent is durable before a packet leaves, and the provider's id for it before money can
//! move. An answer that does not come leaves a row that says so, and the resolver asks until it
//! knows or a person must look. There is at most one movement of money per intent.
//!
//! # The code
//!
//! Crates; Cargo holds the arrows:
//!
//! ```text
//! src ─► providers/{postfinance,paypal,aduno} ─► providers/transport ─► providers/contract
//! tests, examples, demo ─► providers/{testkit,sandbox} ─► providers/{transport,contract}
//! ```
//!
//! | crate | is |
//! | --- | --- |
//! | `contract` | the trait [`PaymentProvider`](cardless_contract::PaymentProvider), and the words on both sides of it: money, outcomes, errors, secrets |
//! | `transport` | the one place where requests leave; says how far each got |
//! | `postfinance`, `paypal`, `aduno` | one provider each behind the trait, with the same files each |
//! | `sandbox` | the three providers on loopback: stateful, wire-level, with faults |
//! | `testkit` | the suite that every adapter passes |
//!
//! Modules of this crate:
//!
//! ```text
//! cli, serve ─► gateway ─► vault, journal, store      journal ─► store      registry ─► the adapters
//! cli ─► scope ─► gateway
//! ```
//!
//! | module | is |
//! | --- | --- |
//! | [`gateway`] | every verb of the API, in the order in which things may happen |
//! | [`message`] | requests and answers, the same in Rust and in HTTP |
//! | [`error`] | what is answered when something is refused, and what the log sees |
//! | [`account`] | account ids, their pseudonyms, and handles |
//! | [`vault`] | seals and opens tokens, makes keyed hashes; keys and where they live |
//! | `journal` | intents and outcomes; the table of a payment's states; the outbox; the audit log's chain |
//! | [`store`] | where rows are kept; makes no decisions |
//! | [`exchange`] | sealed messages between service and clients: JWS in JWE, a client that speaks them, and files of tokens by the same primitives |
//! | [`webhook`] | Standard Webhooks: how an event is signed, and how a receiver verifies it |
//! | [`pan`] | the net for card numbers |
//! | [`config`] | settings |
//! | [`registry`] | settings to providers; the one file that names the adapters |
//! | `serve` | the HTTP service (feature `serve`) |
//! | [`client`] | speaks to a running service with the types of [`message`] |
//! | [`scope`] | the evidence for the PCI review: statements about the running system, and what shows each |
//! | `cli` | the command line, in the program (feature `cli`) |
//!
//! # What is absent
//!
//! Each line is held by a test.
//!
//! - No provider crate names the gateway, the vault, the journal or another provider:
//!   `tests/architecture.rs`, `the_arrows_between_crates_go_one_way`.
//! - Vault and journal know neither each other nor a caller; only `registry` names an adapter, and
//!   only the store names SQLite: `tests/architecture.rs`,
//!   `the_arrows_between_modules_go_one_way`.
//! - Nothing but the transport opens a connection or asks the name service:
//!   `tests/architecture.rs`, `nothing_but_the_transport_connects`. No call leaves that is not in
//!   the adapter's own table, with the fields that it names: `tests/contract`,
//!   `what_postfinance_declares_is_what_leaves`, `what_paypal_declares_is_what_leaves`,
//!   `what_aduno_declares_is_what_leaves`, `what_is_not_declared_is_not_read`.
//! - No unsafe code in any crate: `tests/architecture.rs`, `every_crate_forbids_unsafe_code`.
//! - No float near an amount: `tests/architecture.rs`, `no_float_stands_near_an_amount`.
//! - No adapter turns what it does not know into success or failure, or sends more than it was
//!   asked to: `tests/contract`, one suite for all three, on stubs and on the sandbox.
//! - No request is sent twice by anything below the gateway, and none goes to an address that is
//!   not on the provider's list: `providers/transport/tests/network.rs`,
//!   `closed_after_reading_is_unknown_and_sent_once`, `redirects_are_answers`,
//!   `transport_sends_to_its_hosts_only`. Nor does a lie about a provider's name lead to this
//!   machine or its network: `transport`, `a_name_that_comes_to_lie_on_this_machine_is_not_connected_to`.
//! - Nothing is sent again with another credential unless the provider refused the first before it
//!   did anything: `providers/aduno/tests/wire.rs`,
//!   `the_second_password_is_sent_once_the_first_is_refused`; `providers/postfinance/tests/wire.rs`,
//!   `the_second_key_signs_once_the_first_is_refused`; `providers/paypal/tests/wire.rs`,
//!   `secrets_are_tried_in_order_and_a_failure_makes_a_pause`.
//! - No payment sees a reload of the settings, and a wrong file is never in force: `tests/service`,
//!   `settings_are_reloaded_while_payments_go_on`; `tests/gateway`,
//!   `a_provider_is_not_lost_while_something_is_open_there`.
//! - Nothing begins at a merchant, or in a way to work, that is not in force, and nothing is asked about
//!   there: `tests/gateway`, `nothing_begins_at_a_merchant_that_is_not_in_force`,
//!   `nothing_begins_with_settings_that_are_refused`, `nothing_is_asked_at_a_merchant_that_is_not_in_force`.
//! - No handler acts under another name than its caller's: `tests/architecture.rs`,
//!   `every_handler_acts_for_whoever_calls`.
//! - No hostile webhook changes a row, moves money, reaches an address off the list, or is quoted:
//!   `tests/doors`, `no_hostile_webhook_changes_anything_at_paypals_door` and its two sisters,
//!   `a_body_of_the_same_sum_causes_a_read_and_nothing_else`,
//!   `no_request_leaves_the_list_whatever_the_address_of_the_certificate`.
//! - No order or number of webhooks, racing the calls that cause them, ends in another state:
//!   `tests/faults`, `no_order_of_paypals_webhooks_ends_otherwise` and its two sisters.
//! - No race takes or gives back more than there is, or refuses what fits, and one key is one
//!   execution: `tests/doors`, `racing_refunds_give_back_what_fits_and_never_more_at_paypal` and its
//!   sisters, `many_callers_on_one_key_are_one_charge`.
//! - No hold that has ended keeps its payment `authorized`: `tests/money`,
//!   `a_hold_that_lapses_after_a_part_was_taken_ends_as_captured_and_is_erased`.
//! - No token counts as revoked because it is not known where tokens of its kind are not:
//!   `providers/paypal/tests/wire.rs`,
//!   `a_token_is_revoked_where_its_own_kind_is_whatever_the_settings_say`.
//! - No lost reply becomes a failure or a second movement: `tests/money`,
//!   `a_lost_reply_of_a_charge_is_unknown_and_then_the_truth`,
//!   `a_lost_reply_of_an_operation_is_unknown_and_then_the_truth`.
//! - No SIGKILL, wherever it falls, moves money twice, loses a charge or leaves one open:
//!   `tests/crash`, `no_kill_moves_money_twice_or_loses_it`.
//! - No process that was stopped sends late what another has dealt with meanwhile, or takes it back:
//!   `tests/crash`, `a_process_that_was_stopped_sends_nothing_late`,
//!   `a_link_that_another_process_has_begun_is_not_taken_back`.
//! - No write that the disk refused is carried out after all: `tests/crash`,
//!   `what_the_disk_refuses_is_neither_done_nor_lost`, `a_full_disk_is_told_and_forgiven`.
//! - No token, key, secret or account id in a log line, an error, a panic, the database's bytes or
//!   what the program prints: `tests/secrecy`, `canaries_appear_nowhere`,
//!   `no_secret_comes_out_of_the_program`.
//! - No record is sealed under a key generation that another process has retired, and none is lost
//!   by a rotation of the keys: `tests/gateway`, `a_seal_that_comes_too_late_is_not_kept`,
//!   `after_a_rotation_everything_opens_under_the_new_generation`,
//!   `every_column_of_bytes_is_swept_or_a_hash`; killed anywhere: `tests/faults`,
//!   `a_rotation_that_dies_anywhere_goes_on_and_loses_nothing`, and `tests/service`,
//!   `keys_are_rotated_while_payments_go_on_and_the_program_is_killed`.
//! - Nothing is sealed to be kept that the key's uses do not count: `tests/architecture.rs`,
//!   `what_is_sealed_is_counted`.
//! - No core dump of the program: `tests/service`, `no_core_dump_can_hold_a_key`.
//! - No destroyed key opens anything, a backup from before included: `tests/gateway`,
//!   `a_backup_from_before_a_destroyed_generation_opens_nothing`, and with the program: `tests/service`,
//!   `a_restored_backup_from_before_a_destroyed_generation_is_refused`.
//! - No handle is replaced twice in one rotation, wherever it is interrupted, and no payment sees an
//!   error of it: `tests/service`,
//!   `handles_are_rotated_while_payments_go_on_and_the_program_is_killed`; and an old handle whose
//!   time has ended is not told from one that never existed: `tests/gateway`,
//!   `both_handles_name_the_method_until_the_overlap_ends`.
//! - No event is lost between the store and the receiver, overtaken by another about the same
//!   object, or sent by two processes at once: `tests/gateway`,
//!   `a_worker_that_dies_before_it_marks_leaves_the_event_to_another`,
//!   `events_arrive_once_each_in_the_order_of_their_writing`,
//!   `whatever_is_no_2xx_is_sent_again_later_and_holds_up_its_own_object_only`,
//!   `two_processes_do_not_both_deliver`.
//! - No receiver of events holds up a payment: `tests/gateway`,
//!   `a_receiver_that_hangs_holds_up_no_payment`.
//! - No charge of a restricted account, and no payment out of sight because its account was erased:
//!   `tests/gateway`, `a_restricted_account_takes_nothing_and_gives_back_as_ever`,
//!   `charges_that_race_an_erasure_are_booked_or_refused`.
//! - No line of the audit log changed, dropped, moved or put in without being found:
//!   `tests/gateway`, `every_way_of_tampering_is_found_and_located`, `a_new_line_hides_no_tampering`.
//! - No record opens anywhere but where it belongs: `tests/vault`, `every_other_place_is_refused`,
//!   `every_flipped_bit_is_refused`.
//! - No column that is in no class, and none of them says whether two accounts hold the same token, to
//!   whoever has the database alone; nor does writing to it charge another account's token or make a
//!   client: `tests/secrecy`, `what_a_thief_gets`.
//! - No card number comes in: `tests/service`, `a_card_number_is_refused_wherever_it_stands`,
//!   `a_card_number_in_place_of_a_method_is_refused`;
//!   `pan`, `no_separator_hides_a_number`, `no_script_hides_a_number`.
//! - No column called like card data, no card number in any value of the store, and nothing unsealed
//!   where a seal belongs, without `cardless scope --prove` saying so: `tests/service`,
//!   `the_report_is_of_the_live_store_and_every_planted_fault_is_found`.
//! - No door that takes a card number, or refuses one in silence, without `cardless scope --drill`
//!   saying so: `tests/service`, `every_door_refuses_a_card_number_and_tells_of_it`,
//!   `a_door_that_takes_a_card_number_fails_the_drill`.
//! - No crate that has left its path in the program and is not in its inventory, no role or client
//!   that is not as it was given, no change of the audit log, and no kind of handle without a grade,
//!   without a report that says so: `scope`, `what_the_bytes_name_and_the_inventory_lacks_is_a_fault`,
//!   `a_role_that_is_too_wide_is_a_fault_of_its_door`, `a_client_is_as_the_audit_log_tells`,
//!   `every_kind_of_handle_and_every_column_of_one_is_graded`.
//! - No call of an adapter, no field of it and no field that is read from its answer that is not in the
//!   adapter's own table, which the report on the data flows shows: `tests/contract`,
//!   `what_paypal_declares_is_what_leaves` and its two sisters. No use of cryptography that is not in
//!   the inventory: `tests/architecture.rs`, `every_use_of_cryptography_is_in_the_inventory`.
//! - No operation that its provider has shown ends because it is not found there: `tests/gateway`,
//!   `what_the_provider_has_shown_does_not_end_by_being_absent`.
//! - No clock that is far ahead makes callers' keys be forgotten, and none that was put back leaves
//!   anything waiting: `tests/gateway`, `nothing_is_forgotten_by_a_clock_that_is_far_ahead_twice`,
//!   `nothing_stands_still_after_a_clock_was_put_back`.
//! - No key or address of a key is taken from a sealed message, no message counts twice, and no
//!   answer tells why one was refused: `tests/exchange`,
//!   `every_hostile_message_gets_the_same_answer_and_leaves_nothing`,
//!   `a_replay_is_refused_by_every_process_until_it_is_stale`.
//! - No file of tokens that is not whole, for us and by its sender stores anything:
//!   `tests/gateway`, `no_hostile_file_stores_anything`, `no_flipped_bit_and_no_cut_is_taken`. No
//!   token that shows digits of a card, or belongs to another account, merchant or kind comes in:
//!   `each_record_that_does_not_belong_is_refused_by_its_rule`, `no_token_crosses_accounts`, and
//!   `tests/service`, `what_does_not_belong_is_refused_by_name_and_never_quoted`.
//! - No record is taken in twice, wherever an import is killed and however many run:
//!   `tests/gateway`, `an_import_that_dies_after_any_line_goes_on_without_doubles`, and
//!   `tests/service`,
//!   `an_import_that_is_killed_goes_on_and_two_at_once_take_each_record_once`.
//! - No token of a restricted or erased account goes out, or comes in at one: `tests/gateway`,
//!   `a_restricted_account_neither_goes_out_nor_takes_in`,
//!   `an_erased_account_comes_back_only_by_a_file_that_is_younger`.
//! - No route that `/openapi.json` does not describe: `tests/service`,
//!   `the_document_and_the_router_have_the_same_routes`.

pub mod account;
pub mod client;
pub mod config;
/// What the gateway answers when it does not do what was asked.
pub mod error;
pub mod exchange;
pub mod gateway;
mod journal;
mod letters;
pub mod message;
pub mod pan;
mod protected;
pub mod registry;
pub mod scope;
#[cfg(feature = "serve")]
pub mod serve;
pub mod store;
pub mod vault;
pub mod webhook;
