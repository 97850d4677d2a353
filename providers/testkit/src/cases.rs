//! The suite's cases, as functions over a fixture. [`contract_suite!`](crate::contract_suite)
//! makes one named test of each.

pub mod sandbox;
pub mod stub;

/// Makes one test of each case for a fixture.
///
/// `contract_suite!(paypal_on_stub, stub, crate::paypal())` makes the module `paypal_on_stub` with
/// the cases on a stub; the expression gives a [`StubFixture`](crate::cases::stub::StubFixture).
/// With `sandbox` the expression gives a [`Fixture`](crate::cases::sandbox::Fixture), and time
/// stands still until somebody waits. The calling crate depends on tokio with `macros` and
/// `test-util`.
#[macro_export]
macro_rules! contract_suite {
    ($module:ident, stub, $fixture:expr) => {
        mod $module {
            $crate::stub_cases!([tokio::test], $fixture);
        }
    };
    ($module:ident, sandbox, $fixture:expr) => {
        mod $module {
            $crate::sandbox_cases!([tokio::test(start_paused = true)], $fixture);
        }
    };
}

/// One test for each listed case; what [`contract_suite!`](crate::contract_suite) is made of.
#[macro_export]
#[doc(hidden)]
macro_rules! each_case {
    ($attribute:tt, $kind:ident, $fixture:expr, $($case:ident)*) => {
        $(
            # $attribute
            async fn $case() {
                let fixture = $fixture;
                $crate::cases::$kind::$case(&fixture).await;
            }
        )*
    };
}

/// The names of the cases on a stub.
#[macro_export]
#[doc(hidden)]
macro_rules! stub_cases {
    ($attribute:tt, $fixture:expr) => {
        $crate::each_case!(
            $attribute, stub, $fixture,
            every_call_goes_well
            documented_refusals_end_as_documented
            a_server_error_is_unknown
            an_html_error_is_unknown
            an_undocumented_4xx_is_unknown
            too_many_requests_is_unknown
            malformed_json_is_unknown
            html_for_json_is_unknown
            a_truncated_document_is_unknown
            an_empty_answer_is_unknown
            another_content_type_is_never_refused
            a_huge_answer_is_unknown
            a_slow_answer_is_unknown
            half_a_body_is_unknown
            a_broken_connection_is_unknown
            a_closed_port_is_not_sent
            a_failed_read_after_the_send_is_unknown
            an_unknown_word_is_no_verdict
            another_amount_is_never_success
            a_hostile_amount_is_never_success
            a_word_said_twice_is_no_verdict
            a_deep_answer_is_survived
            another_currency_is_never_success
            another_payment_is_never_success
            a_foreign_page_is_never_handed_out
            unknown_members_are_tolerated
            what_must_be_dropped_is_dropped
            no_access_token_means_not_sent
        );
    };
}

/// The names of the cases on the sandbox.
#[macro_export]
#[doc(hidden)]
macro_rules! sandbox_cases {
    ($attribute:tt, $fixture:expr) => {
        $crate::each_case!(
            $attribute, sandbox, $fixture,
            the_probe_answers
            wrong_credentials_are_told
            a_method_is_linked
            linking_twice_gives_the_same_token
            a_linked_token_has_the_shape_that_is_checked
            a_customer_who_declines_links_nothing
            a_customer_who_stays_away_links_nothing
            a_setup_with_an_amount_pays_and_links
            an_automatic_charge_takes_once
            reserve_holds_what_it_claims
            a_manual_charge_is_captured_whole
            a_manual_charge_is_captured_in_part
            a_manual_charge_is_captured_in_parts
            a_hold_that_lapses_after_a_part_is_told
            a_void_releases
            a_capture_is_refunded_whole
            a_capture_is_refunded_in_parts
            more_than_was_captured_is_not_refunded
            repeats_move_nothing_twice
            the_seal_sees_what_is_sent
            a_lost_reply_moves_once
            a_server_error_after_the_act_moves_once
            half_a_reply_moves_once
            a_lost_request_moves_once
            a_stalled_request_moves_once
            a_refused_connection_moves_once
            a_decline_moves_nothing
            a_pending_charge_concludes_with_time
            a_pending_refund_concludes_with_time
            a_present_customer_pays_once
            a_present_customer_who_declines_pays_nothing
            a_revoked_method_is_gone
            revoking_twice_is_done
            an_amount_that_cant_be_expressed_is_not_sent
            a_currency_that_the_provider_lacks_is_not_sent
            a_payment_is_found_by_reference_where_claimed
            an_unknown_payment_is_not_found
            notifications_verify
            tampered_notifications_are_refused
        );
    };
}
