//! Rows as callers see them.

use cardless_contract::ProviderName;

use super::{Inner, stored};
use crate::error::{Code, Error};
use crate::journal::state;
use crate::message::{
    Decline, Failure, MethodStatus, Operation, OperationKind, OperationStatus, Payment,
    PaymentMethod, PaymentStatus, Refund, Setup, SetupStatus,
};
use crate::store::{
    AccountRow, MethodRow, MethodState, OperationRow, OperationState, OperationType, PaymentRow,
    PaymentState, RecordRow, SealedText, SetupRow, SetupState, Step,
};
use crate::vault::{Context, Purpose};

/// What the failure of an operation that the provider declined begins with; its code follows.
pub(super) const DECLINED: &str = "declined:";

impl Inner {
    /// The caller's id of an account, opened from the store.
    pub(super) async fn account_id(&self, account: &str) -> Result<String, Error> {
        let row = self
            .journal
            .store()
            .account(account)
            .await
            .map_err(stored)?;
        let row = row.ok_or_else(|| Error::not_found("account"))?;
        self.follow_to_open(&row.sealed_id).await;
        self.account_id_of(&row)
    }

    /// The caller's id in an account's row.
    pub(super) fn account_id_of(&self, row: &AccountRow) -> Result<String, Error> {
        let opened = self
            .vault
            .open(&account_context(&row.account), &row.sealed_id)
            .map_err(|error| unopened("the account's id").with_source(error))?;
        String::from_utf8(opened.to_vec())
            .map_err(|error| unopened("the account's id").with_source(error.utf8_error()))
    }

    /// The present handle of a method.
    pub(super) async fn handle_of(&self, method: &str) -> Result<String, Error> {
        let row = self.journal.store().method(method).await.map_err(stored)?;
        Ok(row.map_or_else(|| method.to_owned(), |row| row.handle))
    }

    pub(super) async fn open_redirect(
        &self,
        account: &str,
        provider: &str,
        object: &str,
        sealed: &SealedText,
    ) -> Result<String, Error> {
        self.follow_to_open(&sealed.bytes).await;
        let opened = self
            .vault
            .open(&redirect_context(account, provider, object), &sealed.bytes)
            .map_err(|error| unopened("the redirect address").with_source(error))?;
        String::from_utf8(opened.to_vec())
            .map_err(|error| unopened("the redirect address").with_source(error.utf8_error()))
    }

    /// A payment as a caller sees it; `account` is the caller's id.
    pub(super) async fn payment_view(
        &self,
        row: &PaymentRow,
        account: String,
    ) -> Result<Payment, Error> {
        let operations = self
            .journal
            .store()
            .operations(&row.id)
            .await
            .map_err(stored)?;
        let mut view = payment_view(row, account, &operations)?;
        if row.state == PaymentState::ActionRequired
            && let Some(sealed) = &row.redirect
        {
            view.redirect_url = Some(
                self.open_redirect(&row.account, &row.provider, &row.id, sealed)
                    .await?,
            );
        }
        Ok(view)
    }

    /// A setup as a caller sees it, with the present handle of the method that it has linked.
    pub(super) async fn setup_view(&self, row: &SetupRow, account: String) -> Result<Setup, Error> {
        let redirect_url = match (&row.redirect, row.state) {
            (Some(sealed), SetupState::AwaitingCustomer) => Some(
                self.open_redirect(&row.account, &row.provider, &row.id, sealed)
                    .await?,
            ),
            _ => None,
        };
        Ok(Setup {
            id: row.id.clone(),
            account,
            provider: provider_name(&row.provider)?,
            status: setup_status(row.state),
            redirect_url,
            expires_at: row.expires_at,
            payment: row.payment.clone(),
            payment_method: match &row.method {
                None => None,
                Some(method) => Some(self.handle_of(method).await?),
            },
            decline: decline_view(row.decline.as_ref()),
        })
    }
}

/// A payment without its redirect address.
pub(super) fn payment_view(
    row: &PaymentRow,
    account: String,
    operations: &[OperationRow],
) -> Result<Payment, Error> {
    Ok(Payment {
        id: row.id.clone(),
        account,
        payment_method: row.handle.clone(),
        provider: provider_name(&row.provider)?,
        reference: row.reference.clone(),
        amount: row.amount,
        captured: row.money(row.captured),
        refunded: row.money(row.refunded),
        reversed: row.money(row.reversed),
        status: payment_status(row.state),
        decline: decline_view(row.decline.as_ref()).filter(|_| row.state == PaymentState::Declined),
        failure: row
            .failure
            .as_deref()
            .filter(|_| row.step == Step::Settled && row.state == PaymentState::Failed)
            .map(failure_view),
        reason: row.reason.clone(),
        redirect_url: None,
        expires_at: row.expires_at,
        operations: operations.iter().map(operation_view).collect(),
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

pub(super) fn refund_view(row: &OperationRow) -> Refund {
    Refund {
        id: row.id.clone(),
        payment: row.payment.clone(),
        status: operation_status(row.state),
        amount: row.amount,
        failure: operation_failure(row),
    }
}

pub(super) fn method_view(row: &MethodRow) -> Result<PaymentMethod, Error> {
    Ok(PaymentMethod {
        id: row.handle.clone(),
        provider: provider_name(&row.provider)?,
        status: match row.state {
            MethodState::Active => MethodStatus::Active,
            MethodState::Suspended => MethodStatus::Suspended,
            MethodState::Revoking | MethodState::Revoked => MethodStatus::Revoked,
        },
        default: row.default,
        created_at: row.created_at,
    })
}

pub(super) fn operation_status(state: OperationState) -> OperationStatus {
    match state {
        OperationState::Pending => OperationStatus::Pending,
        OperationState::Unknown => OperationStatus::Unknown,
        OperationState::Succeeded => OperationStatus::Succeeded,
        OperationState::Failed => OperationStatus::Failed,
        OperationState::Parked => OperationStatus::Parked,
    }
}

fn operation_view(row: &OperationRow) -> Operation {
    Operation {
        id: row.id.clone(),
        kind: match row.kind {
            OperationType::Capture => OperationKind::Capture,
            OperationType::Void => OperationKind::Void,
            OperationType::Refund => OperationKind::Refund,
        },
        amount: row.amount,
        status: operation_status(row.state),
        failure: operation_failure(row),
    }
}

pub(super) fn setup_status(state: SetupState) -> SetupStatus {
    match state {
        SetupState::Beginning => SetupStatus::Unknown,
        SetupState::AwaitingCustomer => SetupStatus::AwaitingCustomer,
        SetupState::Completed => SetupStatus::Completed,
        SetupState::Declined => SetupStatus::Declined,
        SetupState::Expired => SetupStatus::Expired,
        SetupState::PaidNotLinked => SetupStatus::PaidNotLinked,
    }
}

fn payment_status(state: PaymentState) -> PaymentStatus {
    match state {
        PaymentState::ActionRequired => PaymentStatus::ActionRequired,
        PaymentState::Pending => PaymentStatus::Pending,
        PaymentState::Unknown => PaymentStatus::Unknown,
        PaymentState::Authorized => PaymentStatus::Authorized,
        PaymentState::Captured => PaymentStatus::Captured,
        PaymentState::Declined => PaymentStatus::Declined,
        PaymentState::Failed => PaymentStatus::Failed,
        PaymentState::Voided => PaymentStatus::Voided,
        PaymentState::Parked => PaymentStatus::Parked,
    }
}

fn decline_view(decline: Option<&(String, String, String)>) -> Option<Decline> {
    decline.map(|(category, retry, provider_code)| Decline {
        category: category.clone(),
        retry: retry.clone(),
        provider_code: provider_code.clone(),
    })
}

/// Why an operation failed. What the provider declined has the provider's own code in the message.
fn operation_failure(row: &OperationRow) -> Option<Failure> {
    let code = row
        .failure
        .as_deref()
        .filter(|_| row.state == OperationState::Failed)?;
    Some(match code.strip_prefix(DECLINED) {
        None => failure_view(code),
        Some(provider_code) => Failure {
            code: "provider_declined".to_owned(),
            message: format!("The provider declined it ({provider_code}). It moved no money."),
        },
    })
}

/// What a failure's code means, in words for the caller.
fn failure_view(code: &str) -> Failure {
    let message = match code {
        "provider_unreachable" => {
            "The provider could not be reached. Nothing was sent; try again with a new key."
        }
        "provider_credentials" => {
            "The provider refused our credentials. The operator must check [providers]; `cardless check` tells which."
        }
        "merchant_account" => {
            "The provider does not allow this to the merchant account. The operator must ask the provider."
        }
        "provider_refused" => "The provider refused the request. No money moved.",
        "not_supported" => "The provider can't express or do this. Nothing was sent.",
        "not_begun" => {
            "Something on our side kept the charge from beginning; the log says what. Nothing was sent."
        }
        "payment_method_gone" => {
            "The payment method was revoked, or its provider no longer accepts it. Nothing was sent; link a new one."
        }
        "gave_up" => {
            "The provider could not be brought to a conclusion in time, and the payment was closed. No money moved."
        }
        state::HOLD_MAY_REMAIN => {
            "The provider gave no answer in time. No money moved and none will; a hold may remain until it lapses by itself."
        }
        "customer_did_not_come" => "The customer did not finish in time. No money moved.",
        "setup_ended" => "The setup that was to link the method ended without one. No money moved.",
        "expired_at_provider" => {
            "The payment was cancelled, or lapsed, at the provider. No money moved."
        }
        "account_restricted" => {
            "The account was restricted before the amount was taken. No money moved and none will."
        }
        "resolved" => {
            "A person has looked at the provider and ended it. No money moved and none will."
        }
        "not_carried_out" => {
            "The provider does not know of it, and asking again was not safe. It moved no money; try again with a new key."
        }
        _ => "No money moved and none will.",
    };
    Failure {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

pub(super) fn provider_name(name: &str) -> Result<ProviderName, Error> {
    ProviderName::new(name).map_err(|error| {
        Error::new(Code::Internal, "A stored provider name can't be read.").with_source(error)
    })
}

pub(super) fn account_context(account: &str) -> Context<'_> {
    Context {
        account,
        provider: "-",
        merchant: "-",
        record: "account",
        purpose: Purpose::Account,
    }
}

pub(super) fn redirect_context<'a>(
    account: &'a str,
    provider: &'a str,
    object: &'a str,
) -> Context<'a> {
    Context {
        account,
        provider,
        merchant: "-",
        record: object,
        purpose: Purpose::Redirect,
    }
}

pub(super) const fn token_context<'a>(
    account: &'a str,
    provider: &'a str,
    merchant: &'a str,
    record: &'a str,
) -> Context<'a> {
    Context {
        account,
        provider,
        merchant,
        record,
        purpose: Purpose::Token,
    }
}

/// The same of a record's row.
pub(super) fn context_of(row: &RecordRow) -> Context<'_> {
    token_context(&row.account, &row.provider, &row.merchant, &row.id)
}

fn unopened(what: &str) -> Error {
    Error::new(
        Code::Internal,
        format!("{what} does not open with the keys of this installation."),
    )
}

/// A decline in the words of a row.
pub(super) fn decline_words(decline: &cardless_contract::Decline) -> (String, String, String) {
    (
        decline.category.as_str().to_owned(),
        decline.retry.as_str().to_owned(),
        decline.provider_code.as_str().to_owned(),
    )
}
